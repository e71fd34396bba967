"""The two roles. Their numbers never change: `accounts.roles.IDS`."""

from django.db import migrations

ROLES = {1: "Admin", 2: "Normal user"}


def write(apps, schema_editor):
    Role = apps.get_model("accounts", "Role")
    Role.objects.bulk_create([Role(id=number, role_name=name) for number, name in ROLES.items()])


def remove(apps, schema_editor):
    apps.get_model("accounts", "Role").objects.filter(id__in=ROLES).delete()


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]
    operations = [migrations.RunPython(write, remove)]
