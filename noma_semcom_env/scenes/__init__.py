"""Images: the rendered street world with its ground truth."""
