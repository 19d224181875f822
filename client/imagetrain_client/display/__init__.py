"""What the user sees of a run: live, in plain lines, as JSON, and the table at its end."""
