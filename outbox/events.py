"""What happened, as small frozen values. Logs, metrics and tests observe them; the core knows nothing of observers' work."""
