"""Code snapshots: what goes in, that they are the same bytes, and that they unpack nowhere else."""

import hashlib
import io
import os
import stat
import threading
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import CodeSnapshotError
from runner.jobs.snapshot import Contents, Snapshot, pack, snapshot_name, unpack, unpack_copy


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


def names(snapshot: Snapshot) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(snapshot.data)).namelist()


def made(*members: tuple[zipfile.ZipInfo | str, bytes]) -> Snapshot:
    """A snapshot as an attacker would make it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for info, data in members:
            archive.writestr(info, data)
    data = buffer.getvalue()
    return Snapshot(data, hashlib.sha256(data).hexdigest(), Contents(len(members), 0, ()))


def test_what_is_packed_is_unpacked(tmp_path: Path) -> None:
    code = write(tmp_path / "code", {"iris.py": "x = 1", "models/wide.py": "", "data/iris.csv": "1,2"})
    (code / "run.sh").write_text("#!/bin/sh")
    (code / "run.sh").chmod(0o700)

    snapshot = pack(code)
    unpacked = unpack(snapshot.data, snapshot.sha256, tmp_path / "cache")

    assert unpacked == tmp_path / "cache" / snapshot.sha256
    assert (unpacked / "iris.py").read_text() == "x = 1"
    assert (unpacked / "models/wide.py").is_file()
    assert stat.S_IMODE((unpacked / "run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((unpacked / "iris.py").stat().st_mode) == 0o644
    assert os.listdir(tmp_path / "cache") == [snapshot.sha256]


@given(
    files=st.dictionaries(
        st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,2}\.py", fullmatch=True).filter(
            lambda name: not {"runner.py", "workers.py", "tensorflow.py", "venv"}.intersection(name.split("/"))
        ),
        st.binary(max_size=200),
        max_size=8,
    )
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_files_give_the_same_bytes(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    snapshots = []
    for mtime, order in ((1e9, sorted(files)), (2e9, sorted(files, reverse=True))):
        code = tmp_path_factory.mktemp("code")
        for name in order:
            (code / name).parent.mkdir(parents=True, exist_ok=True)
            (code / name).write_bytes(files[name])
            os.utime(code / name, (mtime, mtime))
        snapshots.append(pack(code))

    assert snapshots[0] == snapshots[1]
    unpacked = unpack(*snapshots[0][:2], tmp_path_factory.mktemp("cache"))
    assert {name: (unpacked / name).read_bytes() for name in files} == files


def test_another_content_gives_another_hash(tmp_path: Path) -> None:
    assert pack(write(tmp_path, {"iris.py": "x = 1"})).sha256 != pack(write(tmp_path, {"iris.py": "x = 2"})).sha256


def test_ignore_rules_hold_at_every_level(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            ".gitignore": "*.log\n/build/\n!keep.log\n",
            ".runnerignore": "data/\n",
            "iris.py": "",
            "a.log": "",
            "keep.log": "",
            "build/x.py": "",
            "sub/build/x.py": "",
            "data/big.csv": "",
            "sub/.gitignore": "!a.log\n/local.py\n",
            "sub/a.log": "",
            "sub/local.py": "",
            "sub/deep/local.py": "",
        },
    )

    assert names(pack(tmp_path)) == [
        ".gitignore",
        ".runnerignore",
        "iris.py",
        "keep.log",
        "sub/.gitignore",
        "sub/a.log",
        "sub/build/x.py",
        "sub/deep/local.py",
    ]


def test_runnerignore_comes_after_gitignore(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "*.csv\n", ".runnerignore": "!iris.csv\n", "iris.csv": "", "other.csv": ""})

    assert names(pack(tmp_path)) == [".gitignore", ".runnerignore", "iris.csv"]


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        ".env.local",
        ".ENV",
        "sub/.env",
        ".git/config",
        ".venv/bin/python",
        "venv/bin/python",
        "node_modules/x.js",
        "sub/__pycache__/iris.cpython-311.pyc",
        "old.pyc",
        ".runner/spec.json",
        "server.pem",
        "server.key",
        "id_rsa",
        "id_ed25519.pub",
        ".netrc",
        ".aws/config",
        ".ssh/known_hosts",
        "credentials.json",
        "gcp-credentials-prod.json",
        "service-account-1.json",
        "secrets.yaml",
        "prod.env",
        ".npmrc",
        ".pypirc",
        ".kube/config",
        "kubeconfig",
        "prod.kubeconfig",
        "alice_accessKeys.csv",
        "rootkey.csv",
        ".s3cfg",
        "rclone.conf",
        ".config/gcloud/access_tokens.db",
        "application_default_credentials.json",
        "client_secret_42.apps.json",
        ".docker/config.json",
        "prod.tfvars",
        "deploy_rsa",
        ".vault-token",
    ],
)
def test_secrets_and_caches_never_go_in(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"iris.py": "", name: "secret", ".gitignore": f"!{name}\n"})

    assert names(pack(tmp_path)) == [".gitignore", "iris.py"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("iris-prod-4a1f.json", '{"type": "service_account", "private_key_id": "4a1f"}'),
        ("deploy", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n"),
        ("conf/server.txt", "-----BEGIN PRIVATE KEY-----\nMIIE\n"),
        ("conf/cluster.yaml", "users:\n- user:\n    client-key-data: LS0t\n"),
        ("conf/s3.ini", "[default]\naws_secret_access_key = wJalr\n"),
    ],
)
def test_a_key_under_a_harmless_name_never_goes_in(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path, {"iris.py": "", name: text})

    snapshot = pack(tmp_path)

    assert names(snapshot) == ["iris.py"]
    assert snapshot.contents.secrets == (name,)


def test_code_and_settings_that_only_speak_of_keys_go_in(tmp_path: Path) -> None:
    files = {
        "keys.py": 'HEADER = "-----BEGIN PRIVATE KEY-----"',
        "s3.ini": "[default]\n# aws_secret_access_key comes from the environment\nregion = eu-west-1\n",
        "model.json": '{"type": "classifier"}',
    }
    write(tmp_path, files)

    assert names(pack(tmp_path)) == sorted(files)


def test_a_snapshot_says_what_it_was_made_of(tmp_path: Path) -> None:
    files = {"iris.py": "12345", "lib/a.py": "123", "lib/prod.env": "secret", ".env": "", "old.pyc": "", "a.log": ""}
    write(tmp_path, {**files, ".runnerignore": "*.log"})

    contents = pack(tmp_path).contents

    assert (contents.files, contents.size_bytes) == (3, 5 + 3 + 5)
    assert contents.secrets == (".env", "lib/prod.env")


def test_a_virtual_environment_never_goes_in_whatever_its_name(tmp_path: Path) -> None:
    write(tmp_path, {"iris.py": "", "py311/pyvenv.cfg": "", "py311/lib/x.py": ""})

    assert names(pack(tmp_path)) == ["iris.py"]


def test_the_model_dir_of_this_or_another_job_never_goes_in(tmp_path: Path) -> None:
    write(tmp_path, {"iris.py": "", "runs/new/model.ckpt-1.index": "", "runs/old/.runner/x": "", "runs/old/y": ""})

    assert names(pack(tmp_path, exclude=[tmp_path / "runs/new"])) == ["iris.py"]


def test_a_model_dir_around_the_code_leaves_the_code_in(tmp_path: Path) -> None:
    code = write(tmp_path / "code", {"iris.py": ""})

    assert names(pack(code, exclude=[tmp_path])) == ["iris.py"]


def test_links_inside_are_followed_and_others_left_out(tmp_path: Path) -> None:
    code = write(tmp_path / "code", {"iris.py": "x = 1", "lib/a.py": "", ".env": "secret", ".ssh/id": "secret"})
    write(tmp_path, {"outside.py": "secret", "elsewhere/b.py": "secret"})
    links = {
        "alias.py": "iris.py",
        "lib2": "lib",
        "out.py": "../outside.py",
        "out": "../elsewhere",
        "plain.txt": ".env",
        "keys": ".ssh",
        "lib/loop": "..",
        "dangling.py": "nothing.py",
    }
    for name, target in links.items():
        (code / name).symlink_to(target)

    snapshot = pack(code)

    assert names(snapshot) == ["alias.py", "iris.py", "lib/a.py", "lib2/a.py"]
    assert b"secret" not in snapshot.data


def test_pipes_and_sockets_are_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert names(pack(tmp_path)) == []


def test_too_large_a_directory_is_refused_with_its_largest_files(tmp_path: Path) -> None:
    write(tmp_path, {"iris.py": "", "data/big.csv": "x" * 3_000_000, "data/small.csv": "x" * 1_000_000})

    with pytest.raises(CodeSnapshotError, match=r"Largest files: data/big.csv \(2.9 MiB\), data/small.csv"):
        pack(tmp_path, max_size_bytes=2_000_000)


@pytest.mark.parametrize("name", ["runner.py", "workers/__init__.py", "tensorflow/nn/ops.py"])
def test_a_top_level_that_hides_one_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, {name: ""})

    with pytest.raises(CodeSnapshotError, match="Rename it"):
        pack(tmp_path)


def test_a_deeper_module_may_have_such_a_name(tmp_path: Path) -> None:
    write(tmp_path, {"models/runner.py": "", "runner/notes.txt": ""})

    assert names(pack(tmp_path)) == ["models/runner.py", "runner/notes.txt"]


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CodeSnapshotError, match="cannot be packed"):
        pack(tmp_path / "nothing")


def _link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "member", ["../evil.py", "a/../../evil.py", "/evil.py", "a/", ".", _link("link")], ids=lambda m: str(m)[:20]
)
def test_a_member_that_is_no_file_inside_is_refused(tmp_path: Path, member: zipfile.ZipInfo | str) -> None:
    snapshot = made(("iris.py", b""), (member, b"evil"))

    with pytest.raises(CodeSnapshotError, match="not a plain file inside"):
        unpack(*snapshot[:2], tmp_path / "cache")

    assert os.listdir(tmp_path) == ["cache"]
    assert os.listdir(tmp_path / "cache") == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_comes_twice_is_refused(tmp_path: Path) -> None:
    snapshot = made(("iris.py", b"one"), ("iris.py", b"two"))

    with pytest.raises(CodeSnapshotError):
        unpack(*snapshot[:2], tmp_path)


def test_a_member_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    bomb = zipfile.ZipInfo("zeros")
    bomb.compress_type = zipfile.ZIP_DEFLATED

    with pytest.raises(CodeSnapshotError, match="more than"):
        unpack(*made((bomb, bytes(101 * 2**20)))[:2], tmp_path)


def test_damaged_bytes_are_refused(tmp_path: Path) -> None:
    snapshot = pack(write(tmp_path / "code", {"iris.py": ""}))

    with pytest.raises(CodeSnapshotError, match="damaged"):
        unpack(snapshot.data[:-1], snapshot.sha256, tmp_path / "cache")


def test_bytes_that_are_no_zip_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CodeSnapshotError, match="cannot be unpacked"):
        unpack(b"no zip", hashlib.sha256(b"no zip").hexdigest(), tmp_path)


@pytest.mark.parametrize("sha256", ["", "../../etc", "A" * 64, "a" * 64 + "\n"])
def test_a_hash_that_is_none_names_no_file(tmp_path: Path, sha256: str) -> None:
    with pytest.raises(CodeSnapshotError, match="not a sha256"):
        unpack(b"", sha256, tmp_path)
    with pytest.raises(CodeSnapshotError, match="not a sha256"):
        snapshot_name(sha256)


def test_an_unpacked_snapshot_is_used_again(tmp_path: Path) -> None:
    snapshot = pack(write(tmp_path / "code", {"iris.py": ""}))
    first = unpack(*snapshot[:2], tmp_path / "cache")
    inode = (first / "iris.py").stat().st_ino

    assert unpack(*snapshot[:2], tmp_path / "cache") == first
    assert (first / "iris.py").stat().st_ino == inode


def test_a_copy_for_a_person_is_unpacked_where_nothing_is(tmp_path: Path) -> None:
    snapshot = pack(write(tmp_path / "code", {"lib/iris.py": "x = 1"}))
    (tmp_path / "empty").mkdir()

    for target in (tmp_path / "new" / "copy", tmp_path / "empty"):
        unpack_copy(*snapshot[:2], target)

        assert (target / "lib/iris.py").read_text() == "x = 1"
        assert os.listdir(target.parent).count(target.name) == 1
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".unpack")]


def test_a_copy_never_goes_over_something_that_is_there(tmp_path: Path) -> None:
    snapshot = pack(write(tmp_path / "code", {"iris.py": "x = 1"}))
    mine = write(tmp_path / "mine", {"iris.py": "x = 2"})

    for target in (mine, mine / "iris.py"):
        with pytest.raises(CodeSnapshotError, match="there already"):
            unpack_copy(*snapshot[:2], target)

    assert (mine / "iris.py").read_text() == "x = 2"


def test_unpacking_at_the_same_time_is_harmless(tmp_path: Path) -> None:
    snapshot = pack(write(tmp_path / "code", {f"m{i}.py": "x" * 1000 for i in range(50)}))
    barrier, found = threading.Barrier(8), []

    def task() -> None:
        barrier.wait()
        found.append(len(os.listdir(unpack(*snapshot[:2], tmp_path / "cache"))))

    threads = [threading.Thread(target=task) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [50] * 8
    assert os.listdir(tmp_path / "cache") == [snapshot.sha256]
