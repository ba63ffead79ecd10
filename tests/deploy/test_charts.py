"""The Helm charts, rendered with Helm's own engine and checked against Kubernetes' schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from codec_runtime.contract.settings import load_settings
from codec_runtime.serving.settings import ENV_PREFIX, RuntimeSettings, check_exposure, uses_mtls
from xapp.ric.alarms import alarm_target
from xapp.settings import XAPP_ENV_PREFIX, XAppSettings

helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="no kubernetes-validate installed")

ROOT = Path(__file__).parents[2]
CHARTS = ROOT / "charts"
DESCRIPTOR = json.loads((ROOT / "descriptors" / "config-file.json").read_text())
CASES = sorted((path.parent.parent.name, path.stem) for path in CHARTS.glob("*/ci/*.yaml"))
KUBERNETES = ("1.27", kubernetes_validate.latest_version())
CUSTOM_KINDS = {"ServiceMonitor"}
"""Kinds of operators that the Kubernetes schemas do not know."""

Document = dict[str, Any]


def values_of(chart: str, case: str) -> dict[str, Any]:
    return yaml.safe_load((CHARTS / chart / "ci" / f"{case}.yaml").read_text()) or {}


def render(chart: str, values: dict[str, Any]) -> list[Document]:
    """Every document of a release ``semcom`` in namespace ``ricxapp``, NOTES.txt left out."""
    with helm.Chart.load(CHARTS / chart) as loaded:
        loaded.validate_schema(values)
        files = loaded.render(values, name="semcom", namespace="ricxapp")
    return [
        document
        for name, text in files.items()
        if name.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]


def of_kind(documents: list[Document], kind: str) -> list[Document]:
    return [document for document in documents if document["kind"] == kind]


def pod_of(documents: list[Document]) -> Document:
    (deployment,) = of_kind(documents, "Deployment")
    return deployment["spec"]["template"]


def container_of(documents: list[Document]) -> Document:
    (container,) = pod_of(documents)["spec"]["containers"]
    return container


@pytest.fixture(scope="module", params=CASES, ids="/".join)
def documents(request: pytest.FixtureRequest) -> list[Document]:
    return render(request.param[0], values_of(*request.param))


def test_there_are_cases_for_both_charts() -> None:
    assert {chart for chart, _ in CASES} == {"semcom-xapp", "semcom-codec-runtime"}
    assert {"minimal-values", "all-values"} <= {case for _, case in CASES}


@pytest.mark.parametrize(("chart", "case"), CASES)
def test_lint_finds_nothing_above_information(chart: str, case: str) -> None:
    report = helm.lint(CHARTS / chart, values_of(chart, case), strict=True, namespace="ricxapp")
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("version", KUBERNETES)
def test_documents_are_valid_for_kubernetes(documents: list[Document], version: str) -> None:
    checked = [d for d in documents if d["kind"] not in CUSTOM_KINDS]
    assert len(checked) >= 4
    for document in checked:
        kubernetes_validate.validate(document, version, strict=True)


def test_names_are_unique_and_fit_dns_labels(documents: list[Document]) -> None:
    names = [(d["kind"], d["metadata"]["namespace"], d["metadata"]["name"]) for d in documents]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 63 for _, _, name in names)


def test_selectors_match_the_pod(documents: list[Document]) -> None:
    labels = pod_of(documents)["metadata"]["labels"].items()
    (deployment,) = of_kind(documents, "Deployment")
    selectors = [deployment["spec"]["selector"]["matchLabels"]]
    selectors += [service["spec"]["selector"] for service in of_kind(documents, "Service")]
    selectors += [p["spec"]["podSelector"]["matchLabels"] for p in of_kind(documents, "NetworkPolicy")]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels
    for monitor in of_kind(documents, "ServiceMonitor"):
        matched = monitor["spec"]["selector"]["matchLabels"].items()
        services = [s for s in of_kind(documents, "Service") if matched <= s["metadata"]["labels"].items()]
        ports = {port["name"] for service in services for port in service["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports


def test_every_named_port_is_a_port_of_the_container(documents: list[Document]) -> None:
    container = container_of(documents)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for service in of_kind(documents, "Service"):
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    for policy in of_kind(documents, "NetworkPolicy"):
        assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == set(ports)
    for probe in ("livenessProbe", "readinessProbe"):
        if "httpGet" in container[probe]:
            assert container[probe]["httpGet"]["port"] in ports


def test_everything_that_is_mounted_or_referred_to_exists(documents: list[Document]) -> None:
    pod = pod_of(documents)["spec"]
    container = container_of(documents)
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    config_maps = {d["metadata"]["name"] for d in of_kind(documents, "ConfigMap")}
    used = {v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v}
    used |= {source["configMapRef"]["name"] for source in container.get("envFrom", [])}
    assert used == config_maps
    accounts = {d["metadata"]["name"] for d in of_kind(documents, "ServiceAccount")}
    assert pod["serviceAccountName"] in accounts
    claims = {d["metadata"]["name"] for d in of_kind(documents, "PersistentVolumeClaim")}
    wanted = {v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
    assert claims <= wanted


def test_image_is_never_a_moving_target(documents: list[Document]) -> None:
    image = container_of(documents)["image"]
    assert not image.endswith(":latest")
    assert "@sha256:" in image or ":" in image.rsplit("/", 1)[1]


def test_pod_is_confined(documents: list[Document]) -> None:
    pod = pod_of(documents)["spec"]
    container = container_of(documents)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }
    writable = {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"/tmp", "/var/lib/semcom"}
    assert container["resources"]["requests"]["memory"]
    assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("chart", ["semcom-xapp", "semcom-codec-runtime"])
def test_values_are_all_described_by_the_schema_and_typos_are_refused(chart: str) -> None:
    values = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    schema = json.loads((CHARTS / chart / "values.schema.json").read_text())
    assert set(values) == set(schema["properties"]) - {"global"}
    with helm.Chart.load(CHARTS / chart) as loaded, pytest.raises(helm.HelmError, match="replicas"):
        loaded.validate_schema({"replicas": 2})


@pytest.mark.parametrize("chart", ["semcom-xapp", "semcom-codec-runtime"])
def test_latest_tag_is_refused(chart: str) -> None:
    with helm.Chart.load(CHARTS / chart) as loaded, pytest.raises(helm.HelmError, match="tag"):
        loaded.validate_schema({"image": {"tag": "latest"}})


@pytest.mark.parametrize("chart", ["semcom-xapp", "semcom-codec-runtime"])
def test_chart_and_descriptor_have_one_version(chart: str) -> None:
    meta = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
    assert meta["appVersion"] == DESCRIPTOR["version"]


# ---- the xApp -----------------------------------------------------------------------------------------


def descriptor_of(documents: list[Document]) -> Document:
    (config_map,) = of_kind(documents, "ConfigMap")
    return json.loads(config_map["data"]["config-file.json"])


def test_xapp_default_release_is_the_descriptor_as_onboarded() -> None:
    rendered = descriptor_of(render("semcom-xapp", {}))
    assert rendered == DESCRIPTOR


def test_xapp_names_are_those_that_the_platform_derives() -> None:
    documents = render("semcom-xapp", {})
    assert {d["metadata"]["namespace"] for d in documents} == {"ricxapp"}
    assert {d["metadata"]["name"] for d in of_kind(documents, "Service")} == {
        "service-ricxapp-semcom-xapp-http", "service-ricxapp-semcom-xapp-rmr",
    }
    assert of_kind(documents, "ConfigMap")[0]["metadata"]["name"] == "configmap-ricxapp-semcom-xapp-appconfig"
    assert pod_of(documents)["spec"]["hostname"] == "semcom-xapp"
    assert pod_of(documents)["spec"]["enableServiceLinks"] is True
    assert [port["name"] for port in container_of(documents)["ports"]] == ["http", "rmrdata", "rmrroute"]


def test_xapp_environment_is_what_rmr_and_sdl_read() -> None:
    environment = {e["name"]: e.get("value") for e in container_of(render("semcom-xapp", {}))["env"]}
    assert environment["DBAAS_SERVICE_HOST"].startswith("service-ricplt-dbaas-tcp")
    assert environment["DBAAS_SERVICE_PORT"] == "6379"
    assert environment["RMR_RTG_SVC"] == "4561"
    assert environment["RMR_SRC_ID"] == "service-ricxapp-semcom-xapp-rmr.ricxapp"
    assert environment["CONFIG_FILE"] == "/opt/ric/config/config-file.json"
    assert environment["RMR_SEED_RT"] == "/opt/ric/config/routes.rt"


@pytest.mark.parametrize("case", [case for chart, case in CASES if chart == "semcom-xapp"])
def test_xapp_starts_with_every_rendered_configuration(case: str, tmp_path: Path) -> None:
    documents = render("semcom-xapp", values_of("semcom-xapp", case))
    file = tmp_path / "config-file.json"
    file.write_text(json.dumps(descriptor_of(documents)))
    settings = load_settings(
        XAppSettings, env_prefix=XAPP_ENV_PREFIX, file=file, section="controls", environ={}
    )
    ports = {port["name"]: port["containerPort"] for port in container_of(documents)["ports"]}
    assert (settings.http_port, settings.rmr_port) == (ports["http"], ports["rmrdata"])
    mounts = [m["mountPath"] for m in container_of(documents)["volumeMounts"]]
    assert settings.state_dir in mounts
    for path in (settings.tls_ca, settings.tls_cert, settings.tls_key):
        assert not path or str(Path(path).parent) in mounts


def test_xapp_controls_in_the_values_win_even_when_they_are_zero() -> None:
    controls = descriptor_of(render("semcom-xapp", {"controls": {"min_gain_db": 0, "notification_url": ""}}))[
        "controls"
    ]
    assert controls["min_gain_db"] == 0
    assert controls["notification_url"] == ""
    assert controls["quality_target_db"] == 25


def test_xapp_is_scraped_on_its_http_port() -> None:
    pod = pod_of(render("semcom-xapp", {"service": {"http": {"port": 9090}}}))
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == "9090"
    assert pod["metadata"]["annotations"]["prometheus.io/scrape"] == "true"


def test_xapp_is_told_where_the_platforms_managers_are() -> None:
    documents = render("semcom-xapp", {})
    environment = {e["name"]: e.get("value") for e in container_of(documents)["env"]}
    for name in ("submgr_url", "submgr_admin_url", "appmgr_url"):
        assert descriptor_of(documents)["controls"][name] == DESCRIPTOR["controls"][name]
    assert environment["APP_NAMESPACE"] == "ricxapp"
    assert alarm_target(environment) == ("service-ricplt-alarmmanager-rmr.ricplt", 4560)
    changed = {"platform": {"namespace": "ric"}, "alarmManager": {"host": "alarms.ric", "port": 4599}}
    documents = render("semcom-xapp", changed)
    environment = {e["name"]: e.get("value") for e in container_of(documents)["env"]}
    assert alarm_target(environment) == ("alarms.ric", 4599)
    controls = descriptor_of(documents)["controls"]
    assert controls["appmgr_url"] == "http://service-ric-appmgr-http.ric:8080"
    assert controls["submgr_url"] == "http://service-ric-submgr-http.ric:8088"
    assert controls["submgr_admin_url"] == "http://service-ric-submgr-http.ric:8080"
    (config,) = of_kind(documents, "ConfigMap")
    assert "service-ric-a1mediator-rmr.ric:4562" in config["data"]["routes.rt"]
    assert "ricplt" not in config["data"]["routes.rt"]
    mine = render("semcom-xapp", {**changed, "controls": {"appmgr_url": "http://appmgr.ricplt:1"}})
    assert descriptor_of(mine)["controls"]["appmgr_url"] == "http://appmgr.ricplt:1"


@pytest.mark.parametrize("restart", [True, False])
def test_xapp_pod_is_replaced_on_a_changed_configuration_only_if_asked(restart: bool) -> None:
    def pod(target: float) -> Document:
        values = {"restartOnConfigChange": restart, "controls": {"quality_target_db": target}}
        return pod_of(render("semcom-xapp", values))

    assert (pod(20.0) != pod(30.0)) is restart


def test_xapp_configuration_is_mounted_as_a_folder_so_that_swaps_reach_it() -> None:
    # A subPath mount never sees an update of the ConfigMap.
    mounts = container_of(render("semcom-xapp", {}))["volumeMounts"]
    (config,) = [mount for mount in mounts if mount["name"] == "config"]
    assert config["mountPath"] == "/opt/ric/config"
    assert "subPath" not in config


def test_two_replicas_of_the_xapp_are_refused() -> None:
    with helm.Chart.load(CHARTS / "semcom-xapp") as loaded, pytest.raises(helm.HelmError, match="replica"):
        loaded.validate_schema({"replicaCount": 2})


# ---- the runtime --------------------------------------------------------------------------------------


def environment_of(documents: list[Document]) -> dict[str, str]:
    (config_map,) = of_kind(documents, "ConfigMap")
    return config_map["data"]


def test_runtime_without_mutual_tls_is_refused_with_a_reason() -> None:
    with pytest.raises(helm.HelmError, match=r"tls\.secretName is needed"):
        render("semcom-codec-runtime", {})


@pytest.mark.parametrize("case", [case for chart, case in CASES if chart == "semcom-codec-runtime"])
def test_runtime_starts_with_every_rendered_environment(case: str) -> None:
    values = values_of("semcom-codec-runtime", case)
    documents = render("semcom-codec-runtime", values)
    environment = environment_of(documents)
    known = {f"{ENV_PREFIX}_{field.name.upper()}" for field in msgspec.structs.fields(RuntimeSettings)}
    assert set(environment) <= known
    settings = load_settings(RuntimeSettings, env_prefix=ENV_PREFIX, environ=environment)
    assert settings.port == container_of(documents)["ports"][0]["containerPort"]
    assert uses_mtls(settings) is ("secretName" in values["tls"])
    assert check_exposure(settings) is not uses_mtls(settings)
    mounts = [m["mountPath"] for m in container_of(documents)["volumeMounts"]]
    assert settings.state_dir in mounts
    for path in (settings.tls_cert, settings.tls_key, settings.client_ca, settings.trusted_root):
        assert not path or str(Path(path).parent) in mounts


def test_runtime_settings_reach_the_process_unchanged() -> None:
    environment = environment_of(
        render("semcom-codec-runtime", values_of("semcom-codec-runtime", "all-values"))
    )
    settings = load_settings(RuntimeSettings, env_prefix=ENV_PREFIX, environ=environment)
    assert (settings.torch_threads, settings.max_request_bytes) == (2, 67_108_864)
    assert settings.telemetry_idle_s == 7.5


@pytest.mark.parametrize("name", ["port", "tls_cert", "allow_insecure", "Max_Queue"])
def test_runtime_settings_that_other_values_set_are_refused(name: str) -> None:
    with helm.Chart.load(CHARTS / "semcom-codec-runtime") as loaded, pytest.raises(helm.HelmError):
        loaded.validate_schema({"settings": {name: "x"}})


def test_runtime_probes_follow_the_transport() -> None:
    secure = container_of(render("semcom-codec-runtime", {"tls": {"secretName": "t"}}))
    closed = container_of(render("semcom-codec-runtime", {"tls": {"allowInsecure": True}}))
    for probe, path in (
        ("startupProbe", "/v2/health/ready"), ("livenessProbe", "/v2/health/live"),
        ("readinessProbe", "/v2/health/ready"),
    ):
        assert closed[probe]["httpGet"]["path"] == path
        assert path in secure[probe]["exec"]["command"][-1]


def test_runtime_is_not_annotated_for_scraping_it_would_refuse() -> None:
    secure = pod_of(render("semcom-codec-runtime", {"tls": {"secretName": "t"}}))
    closed = pod_of(render("semcom-codec-runtime", {"tls": {"allowInsecure": True}}))
    assert "prometheus.io/scrape" not in secure["metadata"]["annotations"]
    assert closed["metadata"]["annotations"]["prometheus.io/scrape"] == "true"


def test_runtime_gets_no_variables_of_neighbouring_services() -> None:
    # A Service named semcom-runtime would inject SEMCOM_RUNTIME_PORT=tcp://10.0.0.1:8480: a setting.
    pod = pod_of(render("semcom-codec-runtime", {"tls": {"secretName": "t"}}))
    assert pod["spec"]["enableServiceLinks"] is False


def test_sites_reach_the_xapp_unchanged() -> None:
    values = values_of("semcom-xapp", "all-values")
    controls = descriptor_of(render("semcom-xapp", values))["controls"]
    settings = msgspec.convert(controls, XAppSettings)
    assert msgspec.to_builtins(settings.sites) == values["controls"]["sites"]
    assert set(settings.configured_meids) >= {"gnb_208_093_00000e00", "gnb_208_093_00000e02"}


def test_default_runtime_url_of_the_xapp_is_the_default_service_of_the_runtime() -> None:
    documents = render("semcom-codec-runtime", {"tls": {"secretName": "t"}})
    (service,) = of_kind(documents, "Service")
    meta = service["metadata"]
    url = f"https://{meta['name']}.{meta['namespace']}:{service['spec']['ports'][0]['port']}"
    assert descriptor_of(render("semcom-xapp", {}))["controls"]["runtime_url"] == url
