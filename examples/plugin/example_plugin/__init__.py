"""What this package brings is named in pyproject.toml, and imported when it is used."""
