"""The delivery log and the totals as Django sees them: to read. Only the projector writes them."""

from django.db import models


class DeliveryLog(models.Model):
    """One delivery (an event at a destination), as far as the sealed history tells."""

    pk = models.CompositePrimaryKey("version", "account_id", "delivery_id")
    version = models.IntegerField()
    account_id = models.UUIDField()
    delivery_id = models.UUIDField()
    event_id = models.UUIDField()
    client_event_id = models.TextField()
    destination_id = models.UUIDField()
    received_at = models.DateTimeField()
    processed_at = models.DateTimeField(null=True)
    status = models.TextField()
    attempts = models.IntegerField()
    reason = models.TextField()
    response_status = models.IntegerField(null=True)
    next_attempt_at = models.DateTimeField(null=True)
    position = models.BigIntegerField()

    class Meta:
        managed = False
        db_table = "delivery_log"

    def __str__(self) -> str:
        return f"{self.delivery_id} {self.status}"


class Erased(models.Model):
    """An account whose logs are hidden, and go in slices."""

    pk = models.CompositePrimaryKey("version", "account_id")
    version = models.IntegerField()
    account_id = models.UUIDField()

    class Meta:
        managed = False
        db_table = "delivery_log_erased"

    def __str__(self) -> str:
        return str(self.account_id)


class Total(models.Model):
    """How many events of a kind the sealed history has."""

    pk = models.CompositePrimaryKey("version", "type", "reason", "attempt")
    version = models.IntegerField()
    type = models.TextField()
    reason = models.TextField()
    attempt = models.BooleanField()
    number = models.BigIntegerField()

    class Meta:
        managed = False
        db_table = "delivery_total"

    def __str__(self) -> str:
        return f"{self.number} {self.type}"
