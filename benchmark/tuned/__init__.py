"""Settings that `tune` chose, as data: a file a task, those of published boards beside this one."""
