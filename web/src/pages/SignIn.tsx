import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { ways } from "../api/account";
import { Doorstep } from "../components/Doorstep";
import { ByKey, Ways } from "../components/Ways";
import { Button, Card, Failure, Note, TextField } from "../ui/controls";
import { paths } from "../util/paths";
import { refusal } from "../util/refusals";

const ABOUT = "Coding agents in workspaces of their own";

/** For those who are not signed in, at whatever address they came to. */
export function SignIn() {
  const asked = useQuery(ways);
  const query = new URLSearchParams(location.search);
  const used = query.get("link") === "used";
  const refused = query.get("refused");
  if (asked.isPending) return null;
  if (asked.isError) {
    return (
      <Doorstep title="Boatyard" about={ABOUT}>
        <Failure cause={asked.error} />
        <Button onClick={() => asked.refetch()}>Try again</Button>
      </Doorstep>
    );
  }
  const { state } = asked.data;
  if (state === "setup") return <NotSetUp />;
  const single = state === "single";
  return (
    <Doorstep title="Boatyard" about={ABOUT}>
      {used && (
        <Note tone="warn">
          This link was used before, or is too old.{" "}
          {single ? (
            <>
              Sign in with the key, or start <code className="font-mono">boatyard up</code> again:
              it prints a new one.
            </>
          ) : (
            "Sign in below, or ask for a new one."
          )}
        </Note>
      )}
      {refused && (
        <div role="alert">
          <Note tone="warn">{refusal(refused)}</Note>
        </div>
      )}
      <Card className="p-5">
        {single ? <ByKey done={forgetQuery} /> : <Ways ways={asked.data} />}
      </Card>
      {single ? (
        <p className="text-sm text-soft">
          Or open the link that <code className="font-mono">boatyard up</code> printed at its start.
          On the server's machine the key is in the data folder, in{" "}
          <code className="font-mono">client.toml</code>.
        </p>
      ) : (
        <div className="grid gap-3 text-sm text-soft">
          {asked.data.sign_up === "closed" ? (
            <p>No account? Somebody who has one here can invite you.</p>
          ) : (
            <p>
              No account?{" "}
              <Link to={paths.signUp()} className="text-accent underline">
                Make one
              </Link>
            </p>
          )}
          <details>
            <summary className="w-fit rounded">Sign in with an API key</summary>
            <Card className="mt-3 p-5">
              <ByKey done={forgetQuery} />
            </Card>
          </details>
        </div>
      )}
    </Doorstep>
  );
}

/** Why one had to sign in is over. */
function forgetQuery() {
  const query = new URLSearchParams(location.search);
  if (query.has("link") || query.has("refused")) history.replaceState(null, "", "/");
}

function NotSetUp() {
  const [code, setCode] = useState("");
  const found = fromLink(code);
  return (
    <Doorstep title="Boatyard" about="This server has not been set up yet">
      <Card className="p-5">
        <form
          className="grid gap-4"
          onSubmit={(event) => {
            event.preventDefault();
            if (found) location.assign(paths.setup(found));
          }}
        >
          <p className="text-sm text-soft">
            At its start the server printed a link. Whoever opens it first sets the server up and
            becomes its owner. Open that link, or paste it here.
          </p>
          <TextField
            label="Link or code"
            autoComplete="off"
            spellCheck={false}
            value={code}
            onChange={(event) => setCode(event.target.value)}
          />
          <Button type="submit" look="main" disabled={!found}>
            Go on
          </Button>
        </form>
      </Card>
      <p className="text-sm text-soft">
        The link is in the server's log. If it is lost, start the server again: it prints a new one.
      </p>
    </Doorstep>
  );
}

/** The code of a link, or what was pasted itself. */
function fromLink(text: string): string {
  const link = /[?&]code=([^&#\s]+)/.exec(text);
  return link?.[1] ? decodeURIComponent(link[1]) : text.trim();
}
