"""The configuration: precedence, and a mistake named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import amqp_urls, is_local, masked_url, parse_config, shown
from gateway.config.places import find_places, is_aside
from gateway.config.schema import Config, Secret
from gateway.errors import ConfigError


def parse(text: str = "", environ: dict[str, str] | None = None, **overrides: str) -> Config:
    flat = {(key.split("__")[0], key.split("__")[1]): value for key, value in overrides.items()}
    return parse_config(text, "gateway.toml", environ or {}, flat)


def test_everything_has_a_default() -> None:
    config = parse()
    assert config.mqtt.url == "embedded://"
    assert config.amqp.url == ""
    assert config.delivery.mode == "held"


def test_command_line_beats_environment_beats_file() -> None:
    text = '[mqtt]\nurl = "mqtt://file"\nkeepalive_s = 7\nwindow = 9\n'
    environ = {"GATEWAY_MQTT_URL": "mqtt://environment", "GATEWAY_MQTT_WINDOW": "11"}
    assert parse(text, environ).mqtt.url == "mqtt://environment"
    config = parse(text, environ, mqtt__url="mqtt://option")
    assert config.mqtt.url == "mqtt://option"
    assert (config.mqtt.keepalive_s, config.mqtt.window) == (7, 11)


@pytest.mark.parametrize(
    ("broker", "section"), [("mqtt://b:1884", "mqtt"), ("amqps://u:p@b", "amqp"), ("mqtts://b", "mqtt")]
)
def test_msgflo_broker_fills_the_url_of_its_scheme(broker: str, section: str) -> None:
    assert getattr(parse(environ={"MSGFLO_BROKER": broker}), section).url == broker


def test_msgflo_broker_gives_way_to_our_own_variable() -> None:
    environ = {"MSGFLO_BROKER": "mqtt://theirs", "GATEWAY_MQTT_URL": "mqtt://ours"}
    assert parse(environ=environ).mqtt.url == "mqtt://ours"


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("[mqtt]\nurll = 'x'\n", "mqtt.urll", "did you mean mqtt.url?"),
        ("[mqqt]\n", "mqqt", "did you mean mqtt?"),
        ("[mqtt]\nzzzzzz = 1\n", "mqtt.zzzzzz", "known:"),
        ('[delivery.edge."a.out->b.in"]\nmod = "held"\n', 'delivery.edge."a.out->b.in".mod', "did you mean"),
        ("[mqtt]\nwindow = 'many'\n", "mqtt.window", "'many': must be a whole number"),
        ("[mqtt]\nversion = '4'\n", "mqtt.version", """'4': must be "auto", "5" or "3.1.1\""""),
        ("[amqp]\nurl = 5\n", "amqp.url", "5: must be a text or a list of texts"),
        ("[amqp]\nexport = ['a', 1]\n", "amqp.export", "['a', 1]: must be a list of texts"),
        ("[coordinator]\nedit_components = 'yes'\n", "coordinator.edit_components", "must be true or false"),
        ("mqtt = 5\n", "mqtt", "5: must be a table"),
        ("[delivery.edge]\n'a.out->b.in' = 1\n", 'delivery.edge."a.out->b.in"', "1: must be a table"),
        ('[delivery.edge."a.out-b.in"]\n', 'delivery.edge."a.out-b.in"', "written ROLE.PORT->ROLE.PORT"),
        (
            '[delivery.edge."a.o->b.i"]\n[delivery.edge."a.out->b.in"]\nmode = "x"\n',
            'delivery.edge."a.out->b.in".mode',
            """'x': must be "volatile", "held" or "stored\"""",
        ),
        ("[mqtt]\nwindow = 0\n", "mqtt.window", "more than 0"),
        ("[gateway]\ninstance = 'a/b'\n", "gateway.instance", "letters"),
        ("[mqtt]\nwindow = 70000\n", "mqtt.window", "at most 65535"),
        ("[mqtt]\nkeepalive_s = 70000\n", "mqtt.keepalive_s", "at most 65535"),
        ("[mqtt]\nurl = 'http://x'\n", "mqtt.url", "unsupported scheme"),
        ("[mqtt]\nurl = 'mqtt://[::1'\n", "mqtt.url", "is no address: Invalid IPv6 URL"),
        ("[mqtt]\nurl = 'mqtt://'\n", "mqtt.url", "no host"),
        ("[amqp]\nurl = 'amqp://h:port'\n", "amqp.url", "port"),
        ("[delivery]\nmode = 'hold'\n", "delivery.mode", """'hold': must be "volatile", "held" or "stored\""""),
        ("[amqp]\ncert_file = 'c.pem'\n", "amqp.cert_file", "go together"),
        ("[amqp]\npassword = 'a'\npassword_file = 'b'\n", "amqp.password_file", "not both"),
        ("[serial]\nbaud = 'fast'\n", "serial.baud", """'fast': must be a whole number or "auto\""""),
        ("[mqtt\n", "gateway.toml", "no valid TOML"),
    ],
)
def test_a_mistake_names_its_place_in_one_line(text: str, place: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert place in str(caught.value)
    assert hint in str(caught.value)
    assert str(caught.value).startswith("gateway.toml")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 78


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"GATEWAY_MQTT_URLL": "x"}, "did you mean GATEWAY_MQTT_URL?"),
        ({"GATEWAY_MQTT_WINDOW": "many"}, "mqtt.window: 'many': must be a whole number"),
        ({"MSGFLO_BROKER": "kafka://x"}, "unsupported scheme 'kafka'"),
        ({"MSGFLO_BROKER": "mqtt://[::1"}, "is no address"),
    ],
)
def test_a_mistake_in_the_environment_says_so(environ: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match="environment") as caught:
        parse(environ=environ)
    assert words in str(caught.value)


def test_variables_that_choose_places_are_no_keys() -> None:
    assert parse(environ={"GATEWAY_CONFIG": "/x", "GATEWAY_STATE_DIR": "/y"}) == parse()


def test_secrets_are_masked_wherever_they_are_shown() -> None:
    config = parse('[mqtt]\nurl = "mqtt://me:hush@host"\n[amqp]\nurl = "amqp://h"\npassword = "quiet"\n')
    assert "hush" not in str(shown(config))
    assert "quiet" not in str(shown(config))
    assert shown(config)["amqp"]["password"] == "***"
    assert "hush" not in repr(Secret("hush"))
    assert masked_url("amqp://host/vhost") == "amqp://host/vhost"


def test_a_broker_is_local_by_its_host_and_not_by_what_else_the_url_says() -> None:
    assert all(map(is_local, ("mqtt://127.0.0.1:1883", "amqp://u:p@localhost/", "mqtts://[::1]")))
    assert not any(map(is_local, ("mqtt://10.127.0.5", "amqp://localhost@cloud/127.", "mqtt://embedded.example")))


def test_root_uses_the_systems_places_and_a_user_the_xdg_ones() -> None:
    home = Path("/home/kim")
    system = find_places({}, is_root=True, home=home)
    assert (str(system.config), str(system.state)) == ("/etc/gateway/gateway.toml", "/var/lib/gateway")
    user = find_places({"XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/run/user/7"}, is_root=False, home=home)
    assert str(user.config) == "/home/kim/.config/gateway/gateway.toml"
    assert str(user.state) == "/s/gateway"
    assert user.socket.parent == Path("/run/user/7/gateway")


def test_option_beats_variable_for_places_and_daemons_never_share_a_socket() -> None:
    home = Path("/home/kim")
    one = find_places({"GATEWAY_STATE_DIR": "/a"}, is_root=False, home=home, state_dir="/b")
    other = find_places({"GATEWAY_STATE_DIR": "/a"}, is_root=False, home=home)
    assert (str(one.state), str(other.state)) == ("/b", "/a")
    assert one.socket.name != other.socket.name


def test_a_socket_path_too_long_for_the_kernel_moves_aside() -> None:
    places = find_places({}, is_root=False, home=Path("/home/kim"), state_dir="/" + "x" * 200)
    assert len(str(places.socket)) < 100
    assert is_aside(places.socket)
    assert not is_aside(find_places({}, is_root=False, home=Path("/home/kim"), state_dir="/tmp/x").socket)


def test_amqp_takes_several_hosts_and_shows_none_of_their_passwords() -> None:
    config = parse('[amqp]\nurl = ["amqp://u:hush@a", "amqps://b"]\nqueue_type = "quorum"\n')
    assert amqp_urls(config) == ("amqp://u:hush@a", "amqps://b")
    assert shown(config)["amqp"]["url"] == ["amqp://u:***@a", "amqps://b"]
    with pytest.raises(ConfigError, match=r"amqp\.url.*unsupported scheme 'http'"):
        parse('[amqp]\nurl = ["amqp://a", "http://b"]\n')


def test_dead_letters_may_take_no_more_of_the_spool_than_there_is() -> None:
    assert parse("[spool]\nmax_bytes = 1000\nmax_dead_bytes = 1000\n").spool.max_dead_bytes == 1000
    with pytest.raises(ConfigError, match=r"spool\.max_dead_bytes: must be 0 \(a quarter\) to spool\.max_bytes"):
        parse("[spool]\nmax_bytes = 1000\nmax_dead_bytes = 1001\n")
