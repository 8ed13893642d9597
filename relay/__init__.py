"""The service that moves committed jobs to the broker, and the command line: no application imports it.

Start reading at ``loop.py``. Who leads: ``leader``, ``term``, ``backend``. What is sent: ``reader``,
``ledger``,
``destinations``, ``routes``. How: ``window``, ``publisher``, ``virtual``, ``broker``. What else a leader
does:
``chores``. ``shift`` brings them together for one term.
"""
