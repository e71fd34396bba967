"""Who comes and how often they fail; what requests were answered; an account shows its present token by itself."""

import django.db.models.deletion
import django.db.models.functions.datetime
import eventstore.identifiers
from django.conf import settings
from django.db import migrations, models


NEWEST = """
UPDATE accounts_account a SET token_hint = t.hint, token_created_at = t.created_at
  FROM (SELECT DISTINCT ON (account_id) account_id, hint, created_at FROM accounts_ingesttoken
         ORDER BY account_id, created_at DESC, id DESC) t
 WHERE t.account_id = a.id;
SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED;  -- a table with triggers to come can't be altered
"""


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_generation'),
    ]

    operations = [
        migrations.CreateModel(
            name='Failure',
            fields=[
                ('key', models.BinaryField(primary_key=True, serialize=False)),
                ('failures', models.PositiveIntegerField(default=0)),
                ('paused_until', models.DateTimeField(null=True)),
                ('last_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.CreateModel(
            name='Invitation',
            fields=[
                ('id', models.UUIDField(default=eventstore.identifiers.uuid7, editable=False, primary_key=True, serialize=False)),
                ('digest', models.BinaryField(unique=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('expires_at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='KeptAnswer',
            fields=[
                ('id', models.UUIDField(default=eventstore.identifiers.uuid7, editable=False, primary_key=True, serialize=False)),
                ('key', models.CharField(max_length=255)),
                ('request_digest', models.BinaryField()),
                ('status', models.SmallIntegerField(null=True)),
                ('encrypted_answer', models.TextField(blank=True, default='')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.AddField(
            model_name='account',
            name='token_created_at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
        ),
        migrations.AddField(
            model_name='account',
            name='token_hint',
            field=models.CharField(db_default='', editable=False, max_length=32),
        ),
        migrations.RunSQL(NEWEST, migrations.RunSQL.noop),
        migrations.AddField(
            model_name='user',
            name='session_epoch',
            field=models.PositiveIntegerField(db_default=0, editable=False),
        ),
        migrations.AddIndex(
            model_name='accesstoken',
            index=models.Index(fields=['expires_at'], name='access_token_end'),
        ),
        migrations.AddIndex(
            model_name='failure',
            index=models.Index(fields=['last_at'], name='failure_last'),
        ),
        migrations.AddConstraint(
            model_name='failure',
            constraint=models.CheckConstraint(condition=models.Func(models.F('key'), output_field=models.BooleanField(), template='octet_length(%(expressions)s) = 32'), name='failure_key'),
        ),
        migrations.AddField(
            model_name='invitation',
            name='user',
            field=models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='invitation', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='keptanswer',
            name='user',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddConstraint(
            model_name='invitation',
            constraint=models.CheckConstraint(condition=models.Func(models.F('digest'), output_field=models.BooleanField(), template='octet_length(%(expressions)s) = 32'), name='invitation_digest'),
        ),
        migrations.AddIndex(
            model_name='keptanswer',
            index=models.Index(fields=['created_at'], name='kept_answer_age'),
        ),
        migrations.AddConstraint(
            model_name='keptanswer',
            constraint=models.UniqueConstraint(fields=('user', 'key'), name='kept_answer_once_per_key'),
        ),
        migrations.AddConstraint(
            model_name='keptanswer',
            constraint=models.CheckConstraint(condition=models.Q(('key__regex', '^[!-~]{1,255}$')), name='kept_answer_key'),
        ),
        migrations.AddConstraint(
            model_name='keptanswer',
            constraint=models.CheckConstraint(condition=models.Func(models.F('request_digest'), output_field=models.BooleanField(), template='octet_length(%(expressions)s) = 32'), name='kept_answer_request'),
        ),
        migrations.AddConstraint(
            model_name='keptanswer',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('encrypted_answer', ''), ('status', None)), models.Q(('encrypted_answer__regex', '^[0-9A-Za-z]{1,16}[.][0-9A-Za-z_-]{38,}={0,2}$'), ('status__isnull', False), ('status__range', (200, 299))), _connector='OR'), name='kept_answer_is_whole'),
        ),
    ]
