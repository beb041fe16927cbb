"""How do many miners act as one, and who is owed what?"""
