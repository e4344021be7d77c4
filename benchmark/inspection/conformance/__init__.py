"""What a method, a task or a metric must keep to, each as a check that gives a sentence: the verb `check`."""
