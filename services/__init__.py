"""The processes of Gatepost, one folder each; `python -m services` is their command line."""
