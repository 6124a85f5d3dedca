"""What can be said of a model and a task before a run (`diagnosis`), and of a run after it (`explanation`)."""
