"""The store's tables as Django sees them: to read, and not for it to manage (a flush would TRUNCATE)."""

from django.db import models


class Projection(models.Model):
    name = models.TextField(primary_key=True)
    active = models.IntegerField()

    class Meta:
        managed = False
        db_table = "projection"

    def __str__(self) -> str:
        return f"{self.name} v{self.active}"
