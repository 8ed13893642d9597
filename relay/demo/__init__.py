"""The demo: a shop, two relays, two consumers and a wiretap as real processes, and faults in the middle.

``play`` directs, ``shop`` is the application, ``receipts`` its handlers, ``wiretap`` a plain broker client
that notes what really was on the wire, ``verdict`` counts from what those three wrote outside our tables,
``screen`` shows it.
"""
