"""What the chart renders, for each set of values in its ci/ and for single values."""

from __future__ import annotations

import re
from importlib.metadata import entry_points

import pytest
import yaml

from usher_core import settings

COMPONENTS = {"api", "worker", "operator", "migration"}
SECRET_SETTINGS = {"USHER_DATABASE_URL", "USHER_MIGRATE_DATABASE_URL", "USHER_REDIS_URL"}
# Read by the operator's own command.
OPERATOR_SETTINGS = {
    "USHER_OPERATOR_METRICS_PORT",
    "USHER_OPERATOR_LEASE",
    "USHER_WATCH_NAMESPACES",
    "USHER_WATCH_SECRETS",
}
# Read by `usher migrate`, and by nothing that serves.
MIGRATION_SETTINGS = {"USHER_MIGRATE_DATABASE_URL"}


def labels_of(selector):
    return selector["matchLabels"].items()


def environment(container):
    return {variable["name"]: variable for variable in container.get("env", [])}


def test_lint_has_nothing_to_say(chart, value_set):
    """`helm lint --strict` finds no error and gives no warning, advice or hint."""
    run = chart.run("lint", "--strict", value_set.parents[1], "-f", value_set)
    assert (run.returncode, run.stderr) == (0, "")
    assert not re.search(r"\[(INFO|WARNING|ERROR)\]", run.stdout), run.stdout


def test_every_object_is_named_once_labelled_and_in_a_namespace(rendered, value_set):
    """No two objects collide, and each carries the recommended labels and those of the values."""
    wanted = {
        f"app.kubernetes.io/{name}" for name in ("name", "instance", "version", "part-of", "managed-by")
    }
    wanted |= {"helm.sh/chart", *yaml.safe_load(value_set.read_text()).get("commonLabels", {})}
    names = [(it["kind"], it["metadata"].get("namespace"), it["metadata"]["name"]) for it in rendered]
    assert len(names) == len(set(names))
    for document in rendered:
        assert wanted <= document["metadata"]["labels"].keys(), document["metadata"]
        clusterwide = document["kind"].startswith(("Cluster", "CustomResource"))
        assert ("namespace" in document["metadata"]) != clusterwide


def test_every_pod_is_restricted(rendered):
    """Each pod meets the Pod Security Standard `restricted`, with a read-only root file system besides."""
    for component, pod in rendered.pods():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, component
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["enableServiceLinks"] is False
        assert spec["automountServiceAccountToken"] is (component == "operator")
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & spec.keys()
        assert all(volume.keys() == {"name", "emptyDir"} for volume in spec["volumes"])
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted == {"/tmp", "/run/usher/metrics"}
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


def test_no_secret_is_rendered(rendered):
    """URLs with passwords come out of Secrets that exist; the owner's reaches the migration alone."""
    assert not rendered.of_kind("Secret")
    assert not re.search(r"\w+://[^/\s\"]*:[^/\s\"]*@", yaml.safe_dump_all(rendered))
    for config in rendered.of_kind("ConfigMap"):
        assert not SECRET_SETTINGS & config["data"].keys()
    for component, pod in rendered.pods():
        variables = environment(pod["spec"]["containers"][0])
        held = SECRET_SETTINGS & variables.keys()
        owner = {"USHER_MIGRATE_DATABASE_URL"} if component == "migration" else set()
        assert held == {"USHER_DATABASE_URL", "USHER_REDIS_URL"} | owner
        assert all(variables[name].keys() == {"name", "valueFrom"} for name in held)


def test_every_setting_and_command_exists(rendered):
    """The chart asks for no setting that the code does not read, and for no command that it does not have."""
    known = {f"USHER_{name.upper()}" for name in settings.Settings.model_fields}
    commands = {entry.name for entry in entry_points(group="usher.commands")}
    config = rendered.one("ConfigMap")
    for component, pod in rendered.pods():
        (container,) = pod["spec"]["containers"]
        variables = environment(container)
        assert len(variables) == len(container["env"]), "a variable is there twice"
        own = {"operator": OPERATOR_SETTINGS, "migration": MIGRATION_SETTINGS}
        allowed = known | own.get(component, set())
        asked = {name for name in variables if name.startswith("USHER_")}
        if component == "migration":
            assert config["data"].keys() <= asked, "a hook comes before the ConfigMap"
        else:
            assert container["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}]
            asked |= config["data"].keys()
        assert asked <= allowed
        assert container["command"] == ["usher"]
        assert container["args"][0] in commands


def test_selectors_find_the_pods_of_one_component(rendered):
    """Deployments, Services, budgets, policies and spreads select a component's pods and no other's."""
    pods = {component: pod["metadata"]["labels"].items() for component, pod in rendered.pods()}
    selectors = []
    for document in rendered:
        component = document["metadata"]["labels"].get("app.kubernetes.io/component")
        match document["kind"]:
            case "Deployment":
                selectors.append((component, labels_of(document["spec"]["selector"])))
                spreads = document["spec"]["template"]["spec"].get("topologySpreadConstraints", [])
                told = [spread["labelSelector"] for spread in spreads if "labelSelector" in spread]
                selectors += [(component, labels_of(selector)) for selector in told]
            case "PodDisruptionBudget":
                selectors.append((component, labels_of(document["spec"]["selector"])))
            case "NetworkPolicy":
                selectors.append((component, labels_of(document["spec"]["podSelector"])))
            case "Service":
                selectors.append((component, document["spec"]["selector"].items()))
    assert selectors
    for component, selector in selectors:
        assert [name for name, labels in pods.items() if selector <= labels] == [component]


def test_ports_that_are_asked_for_are_there(rendered):
    """Probes, the Service and the policies name ports that the component's container has."""
    ports = {
        component: {
            port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0].get("ports", [])
        }
        for component, pod in rendered.pods()
    }
    for component, pod in rendered.pods():
        container = pod["spec"]["containers"][0]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if component != "migration":
                assert container[probe]["httpGet"]["port"] in ports[component]
    assert rendered.one("Service")["spec"]["ports"][0]["targetPort"] in ports["api"]
    for policy in rendered.of_kind("NetworkPolicy"):
        component = policy["metadata"]["labels"]["app.kubernetes.io/component"]
        for rule in policy["spec"]["ingress"]:
            assert all(port["port"] in ports[component] for port in rule["ports"])


@pytest.mark.parametrize(
    ("component", "ports", "liveness", "readiness"),
    [
        pytest.param("api", [8080], "/healthz", "/readyz", id="api"),
        pytest.param("worker", [9100], "/healthz", "/readyz", id="worker"),
        pytest.param("operator", [9100, 8081], "/healthz", "/healthz", id="operator"),
    ],
)
def test_probes(chart, component, ports, liveness, readiness):
    """Each component is asked for its health where it serves it."""
    container = dict(chart.template().pods())[component]["spec"]["containers"][0]
    assert [it["containerPort"] for it in container["ports"]] == ports
    assert container["startupProbe"]["httpGet"]["path"] == liveness
    assert container["livenessProbe"]["httpGet"]["path"] == liveness
    assert container["readinessProbe"]["httpGet"]["path"] == readiness


def rules_of(document):
    found = {}
    for rule in document["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def operator_rules(*, watch_secrets):
    return {
        ("usher.dev", "scimtenants"): {"list", "watch", "patch"},
        ("usher.dev", "scimtenants/status"): {"patch"},
        ("", "secrets"): {"get", "create", "patch", "delete"}
        | ({"list", "watch"} if watch_secrets else set()),
        ("", "configmaps"): {"get"} | ({"list", "watch"} if watch_secrets else set()),
        ("", "events"): {"create"},
    }


LEASE_RULES = {("coordination.k8s.io", "leases"): {"get", "create", "update"}}


def test_the_operator_has_these_rights_and_no_more(chart):
    """By default one ClusterRole, and a Role for the lease in the release's namespace."""
    rendered = chart.template()
    assert rules_of(rendered.one("ClusterRole")) == operator_rules(watch_secrets=False)
    lease = rendered.one("Role")
    assert rules_of(lease) == LEASE_RULES
    assert lease["metadata"]["namespace"] == "scim-system"


def test_watched_namespaces_hold_the_rights(chart):
    """With `watchNamespaces` there is a Role in each of them and no ClusterRole."""
    rendered = chart.template('operator.watchNamespaces=["identity","partners"]')
    assert not rendered.of_kind("ClusterRole", "ClusterRoleBinding")
    roles = {role["metadata"]["namespace"]: rules_of(role) for role in rendered.of_kind("Role")}
    wanted = operator_rules(watch_secrets=False)
    assert roles == {"identity": wanted, "partners": wanted, "scim-system": LEASE_RULES}
    operator = dict(rendered.pods())["operator"]["spec"]["containers"][0]
    assert environment(operator)["USHER_WATCH_NAMESPACES"]["value"] == "identity,partners"


def test_watching_secrets_adds_list_and_watch(chart):
    """`watchSecrets` widens the right to Secrets, tells the operator, and changes nothing else."""
    rendered = chart.template("operator.watchSecrets=true")
    assert rules_of(rendered.one("ClusterRole")) == operator_rules(watch_secrets=True)
    operator = dict(rendered.pods())["operator"]["spec"]["containers"][0]
    assert environment(operator)["USHER_WATCH_SECRETS"]["value"] == "true"


def test_only_the_operator_is_bound(rendered):
    """Each role is bound once, to the operator's service account in the release's namespace."""
    account = dict(rendered.pods())["operator"]["spec"]["serviceAccountName"]
    roles = {(it["kind"], it["metadata"]["name"]) for it in rendered.of_kind("Role", "ClusterRole")}
    bindings = rendered.of_kind("RoleBinding", "ClusterRoleBinding")
    assert {(it["roleRef"]["kind"], it["roleRef"]["name"]) for it in bindings} == roles
    for binding in bindings:
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": account, "namespace": "scim-system"}
        ]


def test_every_component_has_an_account_of_its_own(chart):
    """Four service accounts, none of which mounts its token by itself."""
    rendered = chart.template()
    accounts = {it["metadata"]["name"]: it for it in rendered.of_kind("ServiceAccount")}
    assert {pod["spec"]["serviceAccountName"] for _, pod in rendered.pods()} == accounts.keys()
    assert len(accounts) == len(COMPONENTS)
    assert not any(it["automountServiceAccountToken"] for it in accounts.values())


def test_the_migration_comes_first_and_brings_what_it_needs(chart):
    """The Job is a hook; its account and its policy are hooks before it, for nothing else is there yet."""
    hooks = {
        document["kind"]: document["metadata"]["annotations"]
        for document in chart.template()
        if "helm.sh/hook" in document["metadata"].get("annotations", {})
    }
    assert hooks.keys() == {"Job", "ServiceAccount", "NetworkPolicy"}
    for hook in hooks.values():
        assert hook["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert hook["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    weights = {kind: int(hook["helm.sh/hook-weight"]) for kind, hook in hooks.items()}
    assert max(weights["ServiceAccount"], weights["NetworkPolicy"]) < weights["Job"]


def test_of_two_operators_one_works_by_the_one_lease_that_they_may_change(chart):
    """They want the lease by the name that the Role gives rights on."""
    rendered = chart.template()
    deployment = rendered.one("Deployment", "operator")
    assert deployment["spec"]["replicas"] == 2
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    namespace, _, name = environment(container)["USHER_OPERATOR_LEASE"]["value"].partition("/")
    role = rendered.one("Role")
    assert namespace == role["metadata"]["namespace"]
    assert [rule.get("resourceNames") for rule in role["rules"]] == [[name], None]
    assert [set(rule["verbs"]) for rule in role["rules"]] == [{"get", "update"}, {"create"}]


def test_pods_end_later_than_what_they_are_at(chart):
    """The api outlives its longest wait and the worker its longest drain job."""
    rendered = chart.template()
    pods = dict(rendered.pods())
    config = rendered.one("ConfigMap")["data"]
    pause = pods["api"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert pause == ["sleep", "5"]
    assert pods["api"]["spec"]["terminationGracePeriodSeconds"] > 5 + float(config["USHER_APPLY_WAIT"])
    assert pods["worker"]["spec"]["terminationGracePeriodSeconds"] > float(config["USHER_DRAIN_LIFETIME"])


def checksums(rendered):
    return {
        component: pod["metadata"]["annotations"]["checksum/config"] for component, pod in rendered.pods()
    }


def test_a_changed_setting_restarts_the_pods(chart):
    """The annotation changes with any setting in the ConfigMap, and with nothing else."""
    before = checksums(chart.template())
    assert before.keys() == COMPONENTS
    settings_changed = (
        'logLevel="debug"',
        "applyWait=20",
        'publicUrl="https://other.example.com"',
        'api.trustedProxies=["10.0.0.0/8"]',
    )
    for changed in settings_changed:
        after = checksums(chart.template(changed))
        assert not set(before.values()) & set(after.values()), changed
    assert checksums(chart.template("api.replicas=5")) == before


def test_a_worker_pod_has_as_many_processes_as_its_value_says(chart):
    """The value is the command's option."""
    for value, told in (((), "1"), (("worker.processes=3",), "3")):
        container = dict(chart.template(*value).pods())["worker"]["spec"]["containers"][0]
        assert container["args"] == ["worker", "--processes", told]


def test_trusted_proxies_are_told_as_one_setting(chart):
    """The list becomes the setting's commas; nobody is trusted unless named."""
    assert chart.template().one("ConfigMap")["data"]["USHER_TRUSTED_PROXIES"] == ""
    named = chart.template('api.trustedProxies=["10.0.0.0/8","2001:db8::7"]').one("ConfigMap")
    assert named["data"]["USHER_TRUSTED_PROXIES"] == "10.0.0.0/8,2001:db8::7"


@pytest.mark.parametrize(
    ("values", "image"),
    [
        pytest.param([], "registry.example.com/usher:0.1.0", id="the chart's appVersion"),
        pytest.param(['image.tag="edge"'], "registry.example.com/usher:edge", id="a tag"),
        pytest.param(
            ['image.tag="edge"', f'image.digest="sha256:{"a" * 64}"'],
            f"registry.example.com/usher@sha256:{'a' * 64}",
            id="a digest over a tag",
        ),
    ],
)
def test_image(chart, values, image):
    """All components run one image, named by digest, tag or the chart's appVersion."""
    assert {pod["spec"]["containers"][0]["image"] for _, pod in chart.template(*values).pods()} == {image}


def test_network_policies_close_what_is_not_needed(chart):
    """Each component has a policy for both directions; only the api is open to everybody."""
    rendered = chart.template()
    policies = {
        it["metadata"]["labels"]["app.kubernetes.io/component"]: it["spec"]
        for it in rendered.of_kind("NetworkPolicy")
    }
    assert policies.keys() == COMPONENTS
    assert all(policy["policyTypes"] == ["Ingress", "Egress"] for policy in policies.values())
    assert policies["migration"]["ingress"] == []
    assert "from" not in policies["api"]["ingress"][0]
    assert policies["worker"]["ingress"] == policies["operator"]["ingress"]
    assert policies["worker"]["ingress"][0]["from"] == [{"namespaceSelector": {}}]
    reached = {
        name: {port["port"] for rule in policy["egress"] for port in rule["ports"]}
        for name, policy in policies.items()
    }
    assert reached == {
        "api": {53, 5432, 6379},
        "worker": {53, 5432, 6379},
        "operator": {53, 5432, 6379, 443, 6443},
        "migration": {53, 5432},
    }


def test_network_policies_can_be_left_out(chart):
    """`networkPolicy.enabled=false` renders none, not even the migration's."""
    assert not chart.template("networkPolicy.enabled=false").of_kind("NetworkPolicy")


def test_budgets_and_spread(chart):
    """One pod at a time is evicted, and pods are spread over nodes and zones."""
    rendered = chart.template()
    assert {it["spec"]["maxUnavailable"] for it in rendered.of_kind("PodDisruptionBudget")} == {1}
    for component in ("api", "worker"):
        rendered.one("PodDisruptionBudget", component)
        spread = dict(rendered.pods())[component]["spec"]["topologySpreadConstraints"]
        keys = [it["topologyKey"] for it in spread]
        assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]


@pytest.mark.parametrize(
    ("values", "hosts"),
    [
        pytest.param([], ["scim.example.com"], id="the shared host"),
        pytest.param(
            ['ingress.hosts=["a.example.com","b.example.com"]'],
            ["a.example.com", "b.example.com"],
            id="named hosts",
        ),
    ],
)
def test_ingress_leads_out_the_scim_endpoint_alone(chart, values, hosts):
    """Each host has the one path, so metrics and probes stay inside."""
    rules = chart.template("ingress.enabled=true", *values).one("Ingress")["spec"]["rules"]
    assert [rule["host"] for rule in rules] == hosts
    for rule in rules:
        (path,) = rule["http"]["paths"]
        assert (path["path"], path["pathType"]) == ("/iam/scim/v2", "Prefix")


def test_a_components_variable_wins_over_everybodys(chart):
    """`extraEnv` of a component replaces the general one of the same name and leaves the others alone."""
    general = 'extraEnv=[{"name":"USHER_STATEMENT_TIMEOUT","value":"3"}]'
    own = 'api.extraEnv=[{"name":"USHER_STATEMENT_TIMEOUT","value":"4"}]'
    pods = dict(chart.template(general, own).pods())
    told = {
        component: environment(pod["spec"]["containers"][0])["USHER_STATEMENT_TIMEOUT"]["value"]
        for component, pod in pods.items()
    }
    assert told == {"api": "4", "worker": "3", "operator": "3", "migration": "3"}


def test_labels_of_the_values_never_break_a_selector(chart):
    """A label that the chart itself sets keeps the chart's value."""
    name = "app.kubernetes.io/name"
    rendered = chart.template(f'commonLabels={{"{name}":"other"}}', f'api.podLabels={{"{name}":"other"}}')
    assert {pod["metadata"]["labels"][name] for _, pod in rendered.pods()} == {"usher"}


@pytest.mark.parametrize("release", ["r" * 53, "usher" + "r" * 48], ids=["any", "with the chart's name"])
def test_names_fit_however_long_the_release_is(chart, release):
    """The longest name of a release that helm takes still makes names of at most 63 characters."""
    rendered = chart.template(name=release)
    for document in rendered.of_kind("Deployment", "Service", "Job", "ConfigMap", "ServiceAccount"):
        assert len(document["metadata"]["name"]) <= 63


def test_a_cluster_may_choose_the_user(chart):
    """Users and groups that are null are left to the cluster; non-root stays."""
    null = [f"podSecurityContext.{name}=null" for name in ("runAsUser", "runAsGroup", "fsGroup")]
    for _, pod in chart.template(*null).pods():
        assert pod["spec"]["securityContext"] == {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }


def test_notes_tell_the_next_step(chart, value_set):
    """After an install the notes name the endpoint and the tenant's namespace."""
    run = chart.run(
        "install", "usher", value_set.parents[1], "-n", "scim-system", "-f", value_set, "--dry-run=client"
    )
    assert (run.returncode, run.stderr) == (0, "")
    notes = run.stdout.split("NOTES:")[1]
    values = yaml.safe_load(value_set.read_text())
    assert f"{values['publicUrl'].rstrip('/')}/iam/scim/v2\n" in notes
    namespace = values.get("operator", {}).get("watchNamespaces", ["scim-system"])[0]
    assert f"namespace: {namespace}\n" in notes
    assert ("WARNING" in notes) == values["publicUrl"].startswith("http://")
