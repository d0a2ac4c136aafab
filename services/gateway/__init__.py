"""The gateway: the HTTP API, and health. It accepts commands and answers with their outcome; it decides nothing itself."""
