"""What type checkers say about programs that use this package; ``make types`` runs them.

A line that has to be reported carries ``type: ignore`` with the code, and an ``ignore`` that
nothing needs is an error: so a wrong name that goes unnoticed makes the check fail.
"""
