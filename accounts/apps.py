from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        from accounts import checks, generations, rules  # noqa: PLC0415  # the models are there only now

        checks.register()
        rules.connect()
        generations.connect()
