"""The demo: a shop, two relays, two consumers and a wiretap as real processes, and faults in the middle.

``play`` directs, ``shop`` is the application, ``receipts`` its handlers, ``verdict`` counts from what they
and the wiretap wrote outside our tables, ``screen`` shows it. What others use too is in ``relay.theatre``.
"""
