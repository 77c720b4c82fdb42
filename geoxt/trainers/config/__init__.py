"""Configuration: layers, transforms, data modules and models built from YAML and from the command line."""
