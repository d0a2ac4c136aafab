"""What Gatepost does in a second, each part measured against a ceiling of this machine in the same rounds."""
