import { useMutation, useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { takeShare, ways } from "../api/account";
import { Problem } from "../api/client";
import { identity } from "../api/queries";
import { Doorstep } from "../components/Doorstep";
import { Ways } from "../components/Ways";
import { Button, Card, Failure, Note } from "../ui/controls";
import { paths } from "../util/paths";

/** A link to a task or a session that somebody shares. */
export function Share() {
  const code = new URLSearchParams(location.search).get("code") ?? "";
  const who = useQuery(identity);
  const navigate = useNavigate();
  const take = useMutation({
    mutationFn: () => takeShare(code),
    onSuccess: (subject) => {
      const to = placeOf(subject);
      if (to) navigate({ to, replace: true });
    },
  });
  if (!code) {
    return (
      <Doorstep title="Shared with you">
        <Note tone="warn">
          The link is not whole: its code is missing. Copy all of it into the address bar.
        </Note>
      </Doorstep>
    );
  }
  const stranger = take.error instanceof Problem && take.error.status === 401 && !who.data;
  return (
    <Doorstep title="Shared with you" about="Somebody shows you the work of an agent">
      {take.isError && <Failure cause={take.error} />}
      {take.isSuccess && !placeOf(take.data) && (
        <div role="status">
          <Note tone="good">
            It is yours to use: <code className="font-mono">{take.data}</code>. The page does not
            show it yet; the command line and the API do.
          </Note>
        </div>
      )}
      <Card className="grid gap-4 p-5">
        {stranger ? (
          <Entrance />
        ) : (
          <>
            <p className="text-sm text-soft">
              {who.data
                ? `You open it as ${who.data.name}.`
                : "You can look without an account, if the link allows that."}
            </p>
            <Button look="main" disabled={take.isPending} onClick={() => take.mutate()}>
              {take.isPending ? "Opening…" : "Open"}
            </Button>
          </>
        )}
      </Card>
    </Doorstep>
  );
}

function Entrance() {
  const asked = useQuery(ways);
  if (asked.isPending) return null;
  if (asked.isError) return <Failure cause={asked.error} />;
  return <Ways ways={asked.data} />;
}

/** Where the page shows a thing; nowhere for a workspace. */
function placeOf(subject: string): string | undefined {
  if (subject.startsWith("tsk_")) return paths.task(subject);
  if (subject.startsWith("ses_")) return paths.session(subject);
  return undefined;
}
