"""The harness: tasks, metrics, evaluator, records and command line."""
