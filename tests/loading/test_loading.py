"""Loading runs nothing that comes with a model, and says in one line what to do where it cannot load."""

import http.server
import json
import threading

import pytest
import torch
from diffusers import DiffusionPipeline
from kit.processes import run_python
from safetensors.torch import load_file

import stg_lab as lab
from stg_lab.errors import ModelNotFoundError, UnsafeModelError

pytestmark = pytest.mark.slow


@pytest.fixture
def saved(tiny, tmp_path):
    """A pipeline in a folder."""
    tiny.pipe.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def told(error):
    """The message, once it is known to be one line that stands alone."""
    assert error.__cause__ is None
    assert error.__suppress_context__
    assert "\n" not in str(error)
    return str(error)


def rename_class(folder, name, kind):
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {name: kind}))


# ---- what a model brings along ----


@pytest.mark.parametrize(
    ("component", "weights"),
    [
        ("transformer", "diffusion_pytorch_model.bin"),
        ("vae", "diffusion_pytorch_model.bin"),
        ("text_encoder", "pytorch_model.bin"),
    ],
)
def test_pickled_weights_are_refused_unless_asked_for(saved, tiny, component, weights):
    [safe] = (saved / component).glob("*.safetensors")
    torch.save(load_file(safe), saved / component / weights)
    safe.unlink()
    with pytest.raises(UnsafeModelError, match=f"no safetensors weights for {component}, only {weights}") as caught:
        lab.load(saved)
    assert "use_safetensors=None" in told(caught.value)
    state = getattr(lab.load(saved, use_safetensors=None), component).state_dict()
    for name, value in getattr(tiny.pipe, component).state_dict().items():
        assert torch.equal(state[name], value), name


def test_pickled_weights_beside_safe_ones_are_not_read(saved):
    (saved / "transformer" / "diffusion_pytorch_model.bin").write_bytes(b"no pickle")
    assert lab.load(saved).transformer is not None


@pytest.mark.parametrize("shard", ["evil.bin", "../elsewhere.safetensors"])
def test_an_index_names_safetensors_beside_it_or_nothing_is_read(saved, tmp_path, shard, monkeypatch):
    """As diffusers reads it, a shard is opened by its ending."""
    [safe] = (saved / "transformer").glob("*.safetensors")
    names = list(load_file(safe))
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, shard)}
    (saved / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    torch.save(load_file(safe), saved / "transformer" / "evil.bin")
    safe.unlink()
    read = []
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: read.append(args) or {})
    with pytest.raises(UnsafeModelError, match=rf"index.json of .* names '{shard}'.*use_safetensors=None"):
        lab.load(saved)
    assert read == []


@pytest.mark.parametrize("where", ["the pipeline", "a component"])
def test_code_that_comes_with_a_model_is_not_run_unless_asked_for(saved, tmp_path, where):
    ran = tmp_path / "ran"
    touch = f"open({str(ran)!r}, 'w').close()\n"
    if where == "the pipeline":
        (saved / "mine.py").write_text(touch + "from diffusers import WanPipeline\nclass Mine(WanPipeline): pass\n")
        rename_class(saved, "_class_name", ["mine", "Mine"])
    else:
        code = touch + "from diffusers import WanTransformer3DModel\nclass Mine(WanTransformer3DModel): pass\n"
        (saved / "transformer" / "mine.py").write_text(code)
        rename_class(saved, "transformer", ["mine", "Mine"])
    with pytest.raises(UnsafeModelError, match="comes with code of its own") as caught:
        lab.load(saved)
    assert "trust_remote_code=True" in told(caught.value)
    assert not ran.exists()


def test_what_the_user_says_goes_to_diffusers_unchanged(monkeypatch, saved):
    given = []
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda place, **kwargs: given.append(kwargs))
    lab.load(saved)
    lab.load(saved, use_safetensors=None, dtype=torch.bfloat16, trust_remote_code=True)
    lab.load("owner/name", revision="main")
    assert given == [
        {"use_safetensors": True},
        {"use_safetensors": None, "dtype": torch.bfloat16, "trust_remote_code": True},
        {"use_safetensors": True, "revision": "main"},
    ]


def test_a_damaged_folder_is_named_with_what_is_missing(saved):
    (saved / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"model could not be loaded: .*diffusion_pytorch_model.safetensors"):
        lab.load(saved)


def test_an_error_that_is_not_about_the_model_stays_what_it_is(monkeypatch, saved):
    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", fail)
    with pytest.raises(torch.OutOfMemoryError):
        lab.load(saved)


# ---- the network ----

ASK = """
    import stg_lab as lab
    try:
        lab.load("nobody/none-such")
    except lab.LabError as error:
        print(type(error).__name__, error.__suppress_context__, error)
"""


def answer(tmp_path, **environment):
    """What a fresh process, with an empty cache, prints to both its outputs."""
    done = run_python(ASK, HF_HOME=str(tmp_path), **environment)
    assert done.stderr == ""
    [line] = done.stdout.splitlines()
    assert line.startswith("ModelNotFoundError True ")
    return line


@pytest.mark.parametrize(
    ("environment", "why"),
    [({"HF_ENDPOINT": "http://127.0.0.1:9"}, "Connection refused"), ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE")],
    ids=["nobody answers", "offline by wish"],
)
def test_without_network_one_line_says_what_to_do(tmp_path, environment, why):
    line = answer(tmp_path, **environment)
    assert "'nobody/none-such' is not in the local cache, and the model hub could not be reached" in line
    assert why in line
    assert "hf download nobody/none-such --local-dir FOLDER" in line


def test_a_repository_that_is_not_there_is_told_from_no_network(tmp_path):
    class Nothing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        line = answer(tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert "'nobody/none-such' is not on the model hub, or not open to you. Check the name" in line


def test_a_name_that_no_repository_can_have(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError, match=r"'own er/na me' is no repository id \(owner/name\)") as caught:
        lab.load("own er/na me")
    told(caught.value)


def test_loading_an_embedded_model_says_nothing():
    """In a process of its own: libraries say some things once."""
    told = run_python("import stg_lab as lab; [lab.load(name) for name in lab.embedded()]")
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
