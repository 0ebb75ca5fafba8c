"""The scripts that train the bundled models, one command each."""
