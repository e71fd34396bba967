"""What does the demo remember, and can it be trusted after a crash or with a stranger on its port?"""

import socket
import subprocess

import pytest

from demo import keep
from guard import urls


def test_nothing_is_kept_at_first(tmp_path) -> None:
    assert keep.read(tmp_path) == {}


@pytest.mark.parametrize("value", ["plain", "with space", "quote'\"s", "$HOME `id` \\", "é=1", ""])
def test_what_is_written_is_read_again_here_and_in_a_shell(tmp_path, value: str) -> None:
    keep.write(tmp_path, {"FIRST": "1", "VALUE": value})

    assert keep.read(tmp_path) == {"FIRST": "1", "VALUE": value}
    script = '. "$1" && printf %s "$VALUE"'
    said = subprocess.run(["sh", "-c", script, "sh", keep.path(tmp_path)], capture_output=True, check=True)
    assert said.stdout.decode() == value


def test_the_file_is_private_and_alone(tmp_path) -> None:
    keep.write(tmp_path, {"A": "1"})
    keep.write(tmp_path, {"B": "2"})

    assert [path.name for path in keep.path(tmp_path).parent.iterdir()] == ["demo.env"]
    assert keep.path(tmp_path).stat().st_mode & 0o777 == 0o600
    assert keep.path(tmp_path).parent.stat().st_mode & 0o777 == 0o700


def test_the_port_stays_the_same_and_the_rest_is_kept(tmp_path) -> None:
    keep.write(tmp_path, {"DEMO_TOKEN": "t"})
    port = keep.receiver_port(tmp_path)

    assert keep.receiver_port(tmp_path) == port
    assert keep.read(tmp_path) == {"DEMO_TOKEN": "t", keep.PORT: str(port)}
    assert port not in urls.DENIED_PORTS


def test_a_port_that_a_stranger_took_is_changed(tmp_path) -> None:
    with socket.create_server((keep.HOST, 0)) as stranger:
        taken = stranger.getsockname()[1]
        keep.write(tmp_path, {keep.PORT: str(taken)})

        assert keep.receiver_port(tmp_path) == taken  # who was told to dial it can't be told anew
        chosen = keep.choose_receiver_port(tmp_path)

    assert chosen != taken
    assert keep.receiver_port(tmp_path) == chosen
    assert 20_000 <= chosen < 32_000  # where no connection that goes out takes it


def test_a_port_that_is_no_number_is_changed(tmp_path) -> None:
    keep.write(tmp_path, {keep.PORT: "http"})

    assert 1024 <= keep.receiver_port(tmp_path) <= 65535
