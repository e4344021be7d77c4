"""Commands that take longer than a run: parts left out, settings chosen, figures over many records."""
