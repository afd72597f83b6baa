"""People's feedback on a run: items to judge, the server and its page, summaries, refinement."""
