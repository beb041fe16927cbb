"""Who may write the next block, and why do we believe it?"""
