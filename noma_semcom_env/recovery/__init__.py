"""What arrives: received features become an image, whose LPIPS tells what it is worth."""
