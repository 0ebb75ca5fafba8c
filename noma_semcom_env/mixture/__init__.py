"""The Mixture of Semantics side: regions of interest by image JSCC, the rest as text, and inpainting."""
