"""What is not ours: plug-ins of installed packages, and tasks of single files."""
