"""What does the rest of the program hear of accounts? (Sent by `rules`, however a row is written.)"""

from django.dispatch import Signal

account_deleting = Signal()
"""`account_id`. In the deleting transaction, before any row of the account goes."""

account_deleted = Signal()
"""`account_id`. After the deletion was committed; for what may be lost without harm."""

destination_changed = Signal()
"""`destination_id`, `account_id`. In the transaction that created, updated, paused, resumed or deleted it."""
