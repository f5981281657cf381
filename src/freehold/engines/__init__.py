"""Programs that run models, behind one contract (`base`): fits, start, generate, embed, score.

A worker is always another process (`supervisor`): it holds no keys, opens no network, listens on a Unix socket that
only its owner can open, and may die. One folder or file per engine.
"""
