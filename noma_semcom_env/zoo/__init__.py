"""The models: presets by name, one loading path, and the bundled weights."""
