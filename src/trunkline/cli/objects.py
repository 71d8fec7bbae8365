"""``trunkline net|subnet|port|… list|show|create|set|delete``: one way for all kinds of objects.

Thin: what may be done and what is wrong with it, the server says; see ``kinds`` for the options.
"""

from __future__ import annotations

from argparse import ArgumentParser, BooleanOptionalAction, Namespace, _SubParsersAction
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from trunkline.cli import access, actions
from trunkline.cli.kinds import KINDS, NONE, Form, Kind, On, Option
from trunkline.cli.lookup import find, find_id
from trunkline.cli.tables import as_json, table
from trunkline.errors import Invalid

if TYPE_CHECKING:
    from trunkline.client import ApiClient

Run = Callable[[Namespace, Kind], int]


def add(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Register the commands of all kinds."""
    for kind in KINDS:
        text = f"{kind.noun}s: {', '.join(_verbs(kind))}"
        parser = commands.add_parser(kind.command, help=text, description=text)
        verbs = parser.add_subparsers(required=True, metavar="VERB")
        for verb, register in _verbs(kind).items():
            _register(verbs, kind, verb, register)
        for action in actions.of(kind):
            action(verbs)


def _verbs(kind: Kind) -> dict[str, Callable[[ArgumentParser, Kind], Run]]:
    change = {"create": _add_create, "set": _add_set} if kind.options else {}
    return {"list": _add_list, "show": _add_show, **change, "delete": _add_delete}


def _register(
    verbs: _SubParsersAction[ArgumentParser],
    kind: Kind,
    verb: str,
    register: Callable[[ArgumentParser, Kind], Run],
) -> None:
    parser = verbs.add_parser(verb, help=f"{verb} {kind.noun}s")
    run = register(parser, kind)
    access.add(parser)
    parser.set_defaults(run=partial(_run, run, kind))


def _run(run: Run, kind: Kind, args: Namespace) -> int:
    return run(args, kind)


def _add_list(parser: ArgumentParser, kind: Kind) -> Run:
    parser.add_argument(
        "filters", nargs="*", metavar="ATTRIBUTE=VALUE", help="only those; repeated: any of these"
    )
    for option in kind.options:
        if option.lists:
            parser.add_argument(f"--{option.flag}", help=f"only of this: {option.help}")
    parser.add_argument("--columns", metavar="A,B", help="the attributes to show")
    parser.add_argument("--json", action="store_true", help="all attributes, as data")
    return _list


def _list(args: Namespace, kind: Kind) -> int:
    filters = _filters(args.filters)
    with access.connected(args) as client:
        for option in kind.options:
            given = getattr(args, option.key, None) if option.lists else None
            if given is not None:
                filters[option.attribute] = [_value(client, option, given)]
        found = client.list(kind.collection, **filters)
    columns = kind.columns
    if args.columns:
        columns = {name: name for name in args.columns.split(",")}
    print(as_json(found) if args.json else table(found, columns))
    return 0


def _filters(words: list[str]) -> dict[str, Any]:
    filters: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise Invalid(f"{word!r} is no filter such as status=ACTIVE")
        filters.setdefault(name, []).append(value)
    return filters


def _add_show(parser: ArgumentParser, kind: Kind) -> Run:
    _add_target(parser, kind)
    parser.add_argument("--json", action="store_true", help="as data")
    return _show


def _show(args: Namespace, kind: Kind) -> int:
    with access.connected(args) as client:
        found = find(client, kind, args.target)
    actions.show(found, args)
    return 0


def _add_create(parser: ArgumentParser, kind: Kind) -> Run:
    if kind.name_is != "none":
        parser.add_argument(
            "new_name", metavar="NAME", nargs=None if kind.name_is == "needed" else "?"
        )
    for option in kind.options:
        if option.on is not On.SET:
            _add_option(parser, option, needed=option.needed)
    if kind.collection == "networks":
        parser.add_argument("--prefix", help="also make a subnet, such as 10.0.0.0/24")
    parser.add_argument("--json", action="store_true", help="as data")
    return _create


def _create(args: Namespace, kind: Kind) -> int:
    with access.connected(args) as client:
        wish = _wish(client, args, kind)
        wish |= kind.implied(wish)
        if getattr(args, "new_name", None) is not None:
            wish["name"] = args.new_name
        made = client.create(kind.collection, wish)
        if kind.collection == "networks" and args.prefix:
            made = actions.with_subnet(client, made, args.prefix)
    actions.show(made, args)
    return 0


def _add_set(parser: ArgumentParser, kind: Kind) -> Run:
    _add_target(parser, kind)
    for option in kind.options:
        if option.on is not On.CREATE:
            _add_option(parser, option, needed=False)
    parser.add_argument("--json", action="store_true", help="as data")
    return _set


def _set(args: Namespace, kind: Kind) -> int:
    with access.connected(args) as client:
        wish = _wish(client, args, kind)
        if not wish:
            raise Invalid(
                f"nothing to set; `trunkline {kind.command} set --help` lists what can be"
            )
        target = find_id(client, kind.collection, args.target)
        changed = client.update(kind.collection, target, wish)
    actions.show(changed, args)
    return 0


def _add_delete(parser: ArgumentParser, kind: Kind) -> Run:
    parser.add_argument("targets", nargs="+", metavar=_target(kind))
    return _delete


def _delete(args: Namespace, kind: Kind) -> int:
    gone: list[str] = []
    try:
        with access.connected(args) as client:
            ids = [find_id(client, kind.collection, word) for word in args.targets]
            for word, one in zip(args.targets, ids, strict=True):
                client.delete(kind.collection, one)
                gone.append(word)
    finally:  # of several, some may be gone when one is refused
        for word in gone:
            print(f"deleted {kind.noun} {word}")
    return 0


def _target(kind: Kind) -> str:
    return {"name": "NAME", "host": "HOST"}.get(kind.named_by, "ADDRESS")


def _add_target(parser: ArgumentParser, kind: Kind) -> None:
    parser.add_argument("target", metavar=_target(kind), help="or an id")


def _add_option(parser: ArgumentParser, option: Option, *, needed: bool) -> None:
    flag = f"--{option.flag}"
    if option.form is Form.SWITCH:
        parser.add_argument(flag, action=BooleanOptionalAction, help=option.help)
    elif option.form in (Form.LIST, Form.OBJECTS):
        help_ = f"{option.help}; repeat it for more, '{NONE}' for none"
        parser.add_argument(flag, action="append", help=help_, required=needed)
    else:
        parser.add_argument(flag, help=option.help, required=needed)


def _wish(client: ApiClient, args: Namespace, kind: Kind) -> dict[str, Any]:
    """Return the attributes that the arguments set."""
    given = {option: getattr(args, option.key, None) for option in kind.options}
    return {
        option.attribute: option.make(_value(client, option, words))
        for option, words in given.items()
        if words is not None
    }


def _value(client: ApiClient, option: Option, given: Any) -> Any:
    """Return what an option's words mean."""
    if option.form is Form.SWITCH:
        return given
    if option.form is Form.LIST:
        return [] if given == [NONE] else [option.item(text) for text in given]
    if option.form is Form.OBJECTS:
        return [] if given == [NONE] else [find_id(client, option.of, word) for word in given]
    if given == NONE:
        return None
    return find_id(client, option.of, given) if option.form is Form.OBJECT else given
