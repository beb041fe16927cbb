"""The commands, run through `main` against a live API."""

from __future__ import annotations

import errno
import io
import json
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from chain import accounts
from chain.failures import StoreError
from chain.keys import address_text
from chain.store import Store
from consensus import exact, records
from consensus.datasets import decode_dataset, digits, with_sealed_test
from consensus.exact import Recipe
from consensus.spaces import get_space
from consensus.tasks import input_shape
from consensus.types import ChallengeBody
from ponas_node.cli.errors import explain
from ponas_node.cli.main import main
from ponas_node.cli.output import clean
from ponas_node.split_keys import read_split_keys
from ponas_node.wallet import create_wallet, read_wallet
from tests.cli.conftest import DIGITS, PASSPHRASE, one_line
from tests.consensus.world import Found

TO = address_text(bytes(range(20)))
GENOTYPE = bytes([0, 0, 1, 1, 0, 1] + [0] * 9)
SEND_DEAD = ["--node", "http://127.0.0.1:9"]


# ---- wallet


def test_new_show_and_open(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PONAS_PASSPHRASE", PASSPHRASE)
    out = run("wallet", "new")
    path = tmp_path / "home" / ".ponas" / "wallet.json"
    wallet = read_wallet(path)
    assert address_text(wallet.address) in out and wallet.open(PASSPHRASE)
    shown = json.loads(run("wallet", "show", "--json"))
    assert shown["address"] == address_text(wallet.address) and shown["encryption"] != "none"
    before = path.read_bytes()
    assert "left as it is" in one_line(run("wallet", "new", code=1))
    assert path.read_bytes() == before


def test_passphrase_file_and_warning(run, tmp_path, capsys):
    (tmp_path / "secret").write_text(PASSPHRASE + "\nmore\n")
    run("wallet", "new", "--wallet", "a.json", "--passphrase-file", "secret")
    assert read_wallet(Path("a.json")).open(PASSPHRASE)
    assert main(["wallet", "new", "--wallet", "b.json", "--no-encryption"]) == 0
    assert "NOT encrypted" in capsys.readouterr().err
    assert read_wallet(Path("b.json")).open()


def test_passphrase_typed_at_the_terminal(run, monkeypatch):
    typed = iter(["one", "two", "one", "one"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(typed))
    assert "differ" in one_line(run("wallet", "new", "--wallet", "w.json", code=2))
    assert not Path("w.json").exists()
    run("wallet", "new", "--wallet", "w.json")
    assert read_wallet(Path("w.json")).open("one")


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"x" * 5000])
def test_bad_passphrase_file(run, content):
    Path("secret").write_bytes(content)
    one_line(run("wallet", "new", "--wallet", "w.json", "--passphrase-file", "secret", code=2))
    one_line(run("wallet", "new", "--wallet", "w.json", "--passphrase-file", "none", code=2))
    assert not Path("w.json").exists()


def test_no_terminal_and_no_passphrase(run):
    assert "PONAS_PASSPHRASE" in one_line(run("wallet", "new", code=2))


def test_wrong_passphrase_missing_and_broken(run, monkeypatch):
    create_wallet(Path("w.json"), PASSPHRASE)
    monkeypatch.setenv("PONAS_PASSPHRASE", "wrong")
    assert "does not open" in one_line(run("wallet", "send", TO, "1", "--wallet", "w.json", *SEND_DEAD, code=1))
    assert "ponas wallet new" in one_line(run("wallet", "show", "--wallet", "none.json", code=1))
    Path("bad.json").write_text("{")
    assert "backup" in one_line(run("wallet", "show", "--wallet", "bad.json", code=1))


def test_balance(run, node, funded):
    assert "0.1 PONAS" in run("wallet", "balance", "--wallet", funded, "--node", node.url)
    answer = json.loads(run("wallet", "balance", "--address", TO, "--node", node.url, "--json"))
    assert answer["balance"] == 0


def test_send(run, node, funded):
    out = run("wallet", "send", TO, "0.02", "--wallet", funded, "--node", node.url, "--yes")
    out = run("wallet", "send", TO, "0.03", "--fee", "0.001", "--wallet", funded, "--node", node.url, "--yes")
    waiting = list(node.view.mempool.best_first())
    assert len(waiting) == 2 and waiting[1].id.hex() in out and waiting[1].fee == 100_000
    node.world.mint(*waiting)
    assert accounts.account(node.view.chain.state, bytes(range(20))).balance == 5_000_000


def test_send_asks_first(run, node, funded, monkeypatch):
    send = ["wallet", "send", TO, "0.02", "--wallet", funded, "--node", node.url]
    assert "--yes" in one_line(run(*send, code=2))
    monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert "nothing was sent" in run(*send, code=1)
    assert len(node.view.mempool) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    run(*send)
    assert len(node.view.mempool) == 1


def test_send_refuses(run, node, funded):
    send = ["--wallet", funded, "--node", node.url, "--yes"]
    assert "holds 0.1 PONAS" in run("wallet", "send", TO, "5", *send, code=1)
    typo = TO[:-1] + ("a" if TO[-1] != "a" else "b")
    assert "typing error" in one_line(run("wallet", "send", typo, "0.01", *send, code=2))
    assert "like 1.5" in one_line(run("wallet", "send", TO, "1,5", *send, code=2))
    one_line(run("wallet", "send", TO, "0", *send, code=2))
    assert "is below" in run("wallet", "send", TO, "0.01", "--fee", "0", *send, code=1)
    assert len(node.view.mempool) == 0


def test_send_is_bound_to_the_genesis(run, node, funded, tmp_path):
    import dataclasses

    good, other = tmp_path / "good.json", tmp_path / "other.json"
    good.write_text(node.view.genesis.to_json())
    other.write_text(dataclasses.replace(node.view.genesis, name="other").to_json())
    send = ["wallet", "send", TO, "0.01", "--wallet", funded, "--node", node.url, "--yes", "--genesis"]
    assert "belongs to network" in run(*send, other, code=1)
    run(*send, good)
    other.write_text("{")
    assert "genesis file" in run(*send, other, code=1)
    assert "cannot be read" in run(*send, tmp_path / "none", code=1)


# ---- node not there


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://no.such.host.invalid"])
def test_no_node(run, url):
    assert "is it running? Start one with" in one_line(run("inspect", "block", "1", "--node", url, code=1))


@pytest.mark.parametrize("url", ["127.0.0.1:8645", "ftp://x", "http://", "http://[", "http://x:99999"])
def test_bad_url(run, url):
    one_line(run("inspect", "block", "1", "--node", url, code=1))


def test_something_else_answers(run):
    import http.server
    import threading

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if "block" in self.path else 404)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert "not a PoNAS node" in one_line(run("inspect", "block", "1", "--node", url, code=1))
        assert "not a PoNAS node" in one_line(run("inspect", "tx", "1", "--node", url, code=1))
        server.shutdown()


# ---- inspect


def test_inspect(run, node):
    reveals = node.view.compete()
    ask = ["--node", node.url]
    assert "coinbase" in run("inspect", "block", "1", *ask)
    assert (
        json.loads(run("inspect", "block", node.view.chain.tip.id.hex(), "--json", *ask))["height"]
        == node.view.chain.height
    )
    assert "150/200" not in run("inspect", "epoch", "0", *ask)
    assert "150" in run("inspect", "epoch", "0", *ask)
    assert "confirmed" in run("inspect", "tx", reveals[0].id.hex(), *ask)
    assert "leaf" in run("inspect", "result", reveals[0].id.hex(), *ask)
    assert "balance" in run("inspect", "account", address_text(node.world.keys[1].address), *ask)
    coinbase = node.view.chain.block_at(1).transactions[0]
    assert "amount" in run("inspect", "tx", coinbase.id.hex(), *ask)
    assert "no such block" in run("inspect", "block", "999", *ask, code=1)
    one_line(run("inspect", "block", "../status", *ask, code=2))


def test_control_characters_are_shown_as_text():
    assert clean("a\x1b[31mb\n\u202e") == "a\\x1b[31mb\\n\\u202e"


# ---- publish


TASK = {
    "name": "mine", "dataset": "digits", "space": "stages-v1", "max_parameters": 100000, "max_macs": 10000000,
    "steps": 8, "batch": 8, "segments": 2, "learning_rate": 64, "eval_samples": 300, "baseline": 3000,
    "bounty_per_epoch": "0.01", "epochs": 3,
}  # fmt: skip


def write_task(**changes: object) -> Path:
    path = Path("task.json")
    path.write_text(json.dumps({name: value for name, value in {**TASK, **changes}.items() if value is not None}))
    return path


def test_publish(run, node, funded):
    path = write_task()
    out = run("publish", path, "--wallet", funded, "--node", node.url, "--yes")
    [transaction] = node.view.mempool.best_first()
    node.world.mint(transaction)
    funded_ids = records.ids(node.view.chain.state, records.FUNDED)
    assert funded_ids[-1].hex() in out and len(funded_ids) == 2
    task = records.task(node.view.chain.state, funded_ids[-1])
    assert task.epochs_left == 3 and task.spec.bounty_per_epoch == 1_000_000 and task.spec.test_samples == 372


def test_publish_needs_its_dataset_at_the_node(run, node, funded, tmp_path):
    for file in node.view.artifacts.root.iterdir():
        file.unlink()
    path = write_task()
    publish = ["publish", path, "--wallet", funded, "--node", node.url, "--yes"]
    assert "--data" in run(*publish, code=1)
    assert "not the data directory" in run(*publish, "--data", tmp_path / "nowhere", code=1)
    run(*publish, "--data", tmp_path / "node")
    assert len(list(node.view.artifacts.root.iterdir())) == 1


def test_sealed_splits_are_cut_published_and_shown(run, node, funded, tmp_path):
    Path("own.pnd").write_bytes(DIGITS)
    assert "4 of 74 samples" in run("dataset", "seal", "own.pnd", "--splits", 4, "--out", "public.pnd")
    keys = Path("public.keys.json")
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    splits = read_split_keys(keys)
    public = decode_dataset(Path("public.pnd").read_bytes(), 1 << 20)
    secret = {sample.tobytes() for sample in digits().test.samples}
    for split in splits:
        opened = with_sealed_test(public, split.read(74 * 66 + 16), split.key)
        assert {sample.tobytes() for sample in opened.test.samples} <= secret
    assert "left as it is" in run("dataset", "seal", "own.pnd", "--splits", 4, "--out", "public.pnd", code=1)
    assert "keys.json exists" in run("dataset", "seal", "own.pnd", "--splits", 1, "--out", "public.x", code=1)

    path = write_task(dataset="public.pnd", sealed="public.keys.json", eval_samples=74)
    publish = ["publish", path, "--wallet", funded, "--node", node.url, "--yes"]
    assert "4 test splits" in run("publish", path, "--dry-run", "--node", node.url)
    assert "--data" in run(*publish, code=1)
    out = run(*publish, "--data", tmp_path / "node")
    [transaction] = node.view.mempool.best_first()
    assert all(split.key.hex() not in out and split.key not in transaction.raw for split in splits)
    node.world.mint(transaction)
    task = records.task(node.view.chain.state, records.ids(node.view.chain.state, records.FUNDED)[-1])
    assert task.splits == tuple(split.public for split in splits)
    assert all(node.view.artifacts.has(split.artifact) for split in splits)
    with urllib.request.urlopen(f"{node.url}/v1/tasks/{task.id.hex()}") as answer:
        shown = json.load(answer)
    assert [split["artifact"] for split in shown["sealed_splits"]] == [split.artifact.hex() for split in splits]

    splits[0].file.write_bytes(bytes(74 * 66 + 16))
    assert "not the sealed split" in run("publish", path, "--dry-run", "--node", node.url, code=1)
    splits[0].file.unlink()
    assert "cannot be read" in run("publish", path, "--dry-run", "--node", node.url, code=1)
    for content in (b"", b"[]", b'{"splits": 5}', b'{"splits": [{"artifact": "", "file": "../x", "key": ""}]}'):
        keys.write_bytes(content)
        assert "file of split keys" in run("publish", path, "--dry-run", "--node", node.url, code=1)


def test_publish_dry_run_sends_nothing(run, node):
    assert "All is well" in run("publish", write_task(), "--dry-run", "--node", node.url)
    assert len(node.view.mempool) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": None}, "missing steps"), ({"color": 1}, "unknown color"), ({"steps": "8"}, "steps"),
        ({"steps": 0}, "steps"), ({"batch": 1 << 60}, "batch"), ({"batch": 1 << 70}, "Task file"),
        ({"name": ""}, "name"), ({"name": 5}, "name"), ({"name": [1]}, "name"),
        ({"bounty_per_epoch": 1.5}, "written as text"),
        ({"bounty_per_epoch": "1,5"}, "bounty"), ({"epochs": 0}, "epochs"), ({"epochs": "1"}, "epochs"),
        ({"dataset": "nowhere.pnd"}, "cannot be read"), ({"dataset": ["x"]}, "dataset"),
        ({"dataset": "task.json"}, "dataset"), ({"dataset": "ab" * 32}, "dataset_bytes"),
        ({"height": 9}, "height is 8"), ({"dataset": "\0"}, "cannot be read"),
    ],
)  # fmt: skip
def test_bad_task_files(run, capsys, changes, words):
    code = main(["publish", str(write_task(**changes)), "--dry-run", *SEND_DEAD])
    assert code in (1, 2)
    assert words in one_line(capsys.readouterr().err)


def test_bad_task_says_where(run, node):
    assert "steps" in run("publish", write_task(steps=9), "--dry-run", "--node", node.url, code=1)
    assert "space" in run("publish", write_task(space="none"), "--dry-run", "--node", node.url, code=1)
    assert "bounty" in run("publish", write_task(bounty_per_epoch=None), "--dry-run", "--node", node.url, code=2)
    assert "not JSON" in run("publish", _text("{"), "--dry-run", "--node", node.url, code=1)
    assert "cannot be read" in run("publish", "nothing.json", "--dry-run", "--node", node.url, code=1)


def _text(text: str) -> Path:
    path = Path("bad.json")
    path.write_text(text)
    return path


# ---- train and replay


def test_train(run, tmp_path):
    arguments = ["train", "--task", write_task(), "--genotype", GENOTYPE.hex(), "--seed", "07", "--save", "model.bin"]
    first = run(*arguments)
    assert "leaf 2" in first and "correct" in first
    from chain.artifact import artifact_id

    assert artifact_id(Path("model.bin").read_bytes()).hex() in first
    assert "left as it is" in one_line(run(*arguments, code=1))
    arguments[arguments.index("model.bin")] = "again.bin"
    second = run(*arguments)
    assert [line for line in first.splitlines() if "leaf" in line] == [
        line for line in second.splitlines() if "leaf" in line
    ]


def test_train_random_and_bad_input(run):
    train = ["train", "--task", write_task()]
    assert "architecture" in run(*train, "--genotype", "random")
    assert "hexadecimal" in one_line(run(*train, "--genotype", "xyz", code=2))
    assert "genes" in one_line(run(*train, "--genotype", "00", code=2))
    assert "seed" in one_line(run(*train, "--genotype", "random", "--seed", "x", code=2))
    one_line(run(*train, "--genotype", "random", "--seed", "00" * 33, code=2))
    assert "multiple" in run(*train, "--genotype", "random", "--steps", "7", code=2)
    assert "written to" in one_line(run(*train, "--genotype", "random", "--save", "no/where", code=1))
    assert "Built-in tasks: digits" in one_line(run("train", "--task", "none", "--genotype", "random", code=1))
    assert "refused" in run(*train, "--genotype", "random", "--device", "abacus", code=1)


def reveal_trained(node, lie: bool) -> str:
    """A result that was really trained, or one whose second leaf is made up; gives its id."""
    world = node.world
    world.mint_to(1)
    epoch = records.current_epoch(world.chain.state)
    spec = world.genesis.tasks[0].spec
    graph = get_space(spec.space).decode(GENOTYPE, input_shape(spec))
    recipe = Recipe(spec.steps, spec.batch, spec.segments, spec.learning_rate)
    leaves = list(exact.train(graph, digits(), recipe, epoch.seed).leaves)
    if lie:
        leaves[2] = bytes(32)
    found = Found(GENOTYPE, tuple(leaves), bytes(32), 250)
    world.facts.scores[leaves[-1]] = 250
    return world.competition({1: [found]})[1][0].id.hex()


def test_replay_of_an_honest_result(run, node):
    id = reveal_trained(node, lie=False)
    out = run("replay", id, "--node", node.url)
    assert "EQUAL: all 4 leaves" in out and "NOT" not in out
    assert "EQUAL: all 2 leaves" in run("replay", id, "--segment", "0", "--node", node.url)
    assert "--segment" in run("replay", id, "--segment", "2", "--node", node.url, code=2)
    assert "id of a result" in one_line(run("replay", "xyz", "--node", node.url, code=2))
    assert "no result" in one_line(run("replay", "00" * 32, "--node", node.url, code=1)).lower()


def test_replay_finds_a_lie(run, node):
    id = reveal_trained(node, lie=True)
    assert "EQUAL: all 2" in run("replay", id, "--segment", "0", "--node", node.url)
    assert "NOT EQUAL: leaf 2" in run("replay", id, "--node", node.url, code=1)


# ---- audits


def test_audit_of_an_honest_result(run, node):
    id = reveal_trained(node, lie=False)
    assert "TRUE: all 4 leaves" in run("audit", id, "--node", node.url)
    assert "id of a result" in one_line(run("audit", "xyz", "--node", node.url, code=2))
    assert "--data" in one_line(run("audit", id, "--file", "--node", node.url, code=2))
    assert len(node.view.mempool) == 0


def test_audit_challenges_a_lie(run, node, funded, tmp_path):
    """The result of key 1 has a false second leaf: its segment 1 is replayed from a state that the command provides."""
    id = reveal_trained(node, lie=True)
    file = ["--file", "--wallet", funded, "--node", node.url, "--yes", "--data"]
    assert "not the data directory" in one_line(run("audit", id, *file, tmp_path / "none", code=1))
    node.world.facts.forged.add(bytes(32))
    out = run("audit", id, *file, node.view.artifacts.root.parent, code=1)
    assert "FORGED: segment 1" in out and "pending" in out
    (challenge,) = node.view.mempool.transactions()
    body = ChallengeBody.decode(challenge.body)
    assert (body.result.hex(), body.segment) == (id, 1)
    assert node.view.artifacts.size(body.state) == body.state_bytes > 0
    node.world.mint(challenge)
    shown = run("inspect", "result", id, "--node", node.url)
    assert "revoked           yes" in shown
    assert "challenge" in run("inspect", "tx", challenge.id.hex(), "--node", node.url)
    assert "revoked" in run("inspect", "epoch", "0", "--node", node.url)


# ---- the program as a whole


def test_wrong_usage(run):
    assert "COMMAND" in run("nonsense", code=2)
    assert "usage" in run("wallet", code=2)
    assert main([]) == 2


def test_ctrl_c_is_quiet(monkeypatch, capsys):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ponas_node.cli.wallet._show", interrupt)
    assert main(["wallet", "show"]) == 130
    assert capsys.readouterr() == ("", "")


def test_help_of_every_command(capsys):
    for command in ("wallet", "inspect", "publish", "train", "replay", "audit", "picture"):
        assert main([command, "--help"]) == 0
        assert "examples:" in capsys.readouterr().out
    for part in (["wallet", "send"], ["wallet", "new"], ["inspect", "block"]):
        assert main([*part, "--help"]) == 0
        assert "examples:" in capsys.readouterr().out


def test_help_is_fast_and_loads_no_torch():
    code = "import sys; from ponas_node.cli.main import main; main(['--help']); assert 'torch' not in sys.modules"
    started = time.process_time(), time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert "first steps" in done.stdout
    assert time.monotonic() - started[1] < 5  # 0.3 s on an idle machine


def test_subprocess_exit_codes():
    base = [sys.executable, "-m", "ponas_node.cli.main"]
    root = Path(__file__).parents[2]
    done = subprocess.run([*base, "inspect", "block", "1", *SEND_DEAD], capture_output=True, text=True, cwd=root)
    assert done.returncode == 1 and done.stderr.startswith("ponas: No node answers") and done.stdout == ""


def test_errors_of_the_system_and_of_the_database(tmp_path):
    told = explain(OSError(errno.EADDRINUSE, "address already in use"))
    assert told.exit_code == 1 and "--api-port" in str(told)
    assert "intact" in str(explain(OSError(errno.ENOSPC, "No space left on device", "/x")))
    for broken in (tmp_path / "none", tmp_path / "file"):
        (tmp_path / "file").write_text("x")
        with pytest.raises(StoreError) as caught:
            Store(broken, bytes(32), create=False)
        assert explain(caught.value).exit_code == 1
    assert explain(KeyError("x")) is None
