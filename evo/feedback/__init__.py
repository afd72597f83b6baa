"""People's feedback on a run: what is shown, the server and its page, and what came of it."""
