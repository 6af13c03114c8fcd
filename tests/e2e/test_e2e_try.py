from __future__ import annotations
from pathlib import Path
import time
def test_try(cluster, operator, namespace):
    text = Path("/work/main/examples/acme.yaml").read_text().replace("namespace: identity", f"namespace: {namespace}")
    out = []
    def k(*w, **kw):
        r = cluster.run(*w, "-n", namespace, **kw)
        out.append("$ kubectl " + " ".join(w) + "\n" + r.stdout + r.stderr + f"[{r.returncode}]")
    k("apply","--server-side","-f","-",stdin=text)
    k("wait","--for=condition=Ready","scimtenant/acme","--timeout=60s")
    time.sleep(3)
    k("get","scimtenants"); k("get","scimt","acme","-o","wide")
    k("describe","scimtenant","acme")
    k("describe","secret","acme-scim-okta")
    k("explain","scimtenant.spec.sso")
    k("explain","scimtenant.spec.tokens.ttl")
    k("patch","scimtenant","acme","--type=json","-p",'[{"op":"replace","path":"/spec/tokens/0/ttl","value":"9000h"}]')
    k("delete","configmap","acme-saml")
    k("label","scimtenant","acme","look=again")
    k("wait","--for=condition=SSOReady=False","scimtenant/acme","--timeout=60s")
    k("get","scimt","acme","-o","wide")
    k("get","events")
    k("apply","--server-side","-f","-",stdin=text)
    k("delete","scimtenant","acme")
    k("get","secret","acme-scim-okta")
    k("apply","--server-side","-f","-",stdin=text)
    k("wait","--for=condition=Ready","scimtenant/acme","--timeout=60s")
    operator.stop()
    k("delete","scimtenant","acme","--timeout=3s")
    k("get","scimtenant","acme","-o","jsonpath={.metadata.deletionTimestamp} {.metadata.finalizers}")
    operator.start()
    k("wait","--for=delete","scimtenant/acme","--timeout=60s")
    Path("/tmp/try.out").write_text("\n\n".join(out))
