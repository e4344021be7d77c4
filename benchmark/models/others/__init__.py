"""Models of others: what a person has, made the frozen module of logits that is explained."""
