"""Every SQL statement of the project, by subject, and the schema they run on."""
