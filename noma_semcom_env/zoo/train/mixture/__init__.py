"""The scripts that train the models of the Mixture of Semantics side."""
