"""Where does this program reach itself? At HOST and PORT; from "everywhere" it picks loopback."""

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not listened on


def own_host(host: str) -> str:
    return EVERYWHERE.get(host, host)


def own_url(host: str, port: int) -> str:
    reached = own_host(host)
    return f"http://{f'[{reached}]' if ':' in reached else reached}:{port}"
