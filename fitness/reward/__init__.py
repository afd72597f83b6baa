"""Reward models learned from people's judgements, and which judgements to ask for next."""
