import { useMutation, useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { acceptInvitation, invitation, startAt, ways } from "../api/account";
import { identity } from "../api/queries";
import type { InvitationPreview } from "../api/types";
import { Doorstep, Or } from "../components/Doorstep";
import { Ways } from "../components/Ways";
import { Button, ButtonLink, Card, Failure, Note } from "../ui/controls";
import { moment } from "../util/format";
import { paths } from "../util/paths";
import { refusal } from "../util/refusals";
import { NewAccount } from "./SignUp";

/** An invitation to an organization: for somebody new, or for somebody who is here already. */
export function Invite() {
  const query = new URLSearchParams(location.search);
  const code = query.get("code") ?? "";
  const refused = query.get("refused");
  const asked = useQuery(invitation(code));
  const who = useQuery(identity);
  if (!code) {
    return (
      <Doorstep title="Invitation">
        <Note tone="warn">
          The link is not whole: its code is missing. Copy all of it into the address bar.
        </Note>
      </Doorstep>
    );
  }
  if (asked.isError) {
    return (
      <Doorstep title="Invitation">
        <Failure cause={asked.error} />
        <Link to={paths.tasks()} className="text-sm text-accent underline">
          To Boatyard
        </Link>
      </Doorstep>
    );
  }
  if (asked.isPending || who.isPending) return null;
  const found = asked.data;
  return (
    <Doorstep
      title={`Join ${found.organization_name}`}
      about={`${found.invited_by} invites you as ${ROLES[found.role]}`}
    >
      {refused && (
        <div role="alert">
          <Note tone="warn">{refusal(refused)}</Note>
        </div>
      )}
      <Card className="p-5">
        {who.data ? (
          <Accept code={code} found={found} name={who.data.name} email={who.data.email} />
        ) : (
          <Newcomer code={code} found={found} />
        )}
      </Card>
      <p className="text-sm text-soft">
        The invitation is good until {moment(found.expires)}.
        {found.email && ` It is for ${found.email}.`}
      </p>
    </Doorstep>
  );
}

const ROLES: Record<InvitationPreview["role"], string> = {
  viewer: "a viewer: you see everything and change nothing",
  member: "a member: you give orders and work with agents",
  admin: "an admin: you decide on people, rules and limits, too",
  owner: "an owner: you decide on the organization itself, too",
};

function Accept({
  code,
  found,
  name,
  email,
}: {
  code: string;
  found: InvitationPreview;
  name: string;
  email?: string | null;
}) {
  const navigate = useNavigate();
  const accept = useMutation({
    mutationFn: () => acceptInvitation(code),
    onSuccess: () => navigate({ to: paths.tasks(), replace: true }),
  });
  return (
    <div className="grid gap-4">
      <p className="text-sm text-soft">
        You are signed in as <strong className="text-ink">{name}</strong>
        {email && ` (${email})`}.
      </p>
      {accept.isError && <Failure cause={accept.error} />}
      <Button look="main" disabled={accept.isPending} onClick={() => accept.mutate()}>
        {accept.isPending ? "Joining…" : `Join ${found.organization_name}`}
      </Button>
    </div>
  );
}

function Newcomer({ code, found }: { code: string; found: InvitationPreview }) {
  const [known, setKnown] = useState(false);
  const asked = useQuery(ways);
  if (asked.isPending) return null;
  if (asked.isError) return <Failure cause={asked.error} />;
  const { providers, password } = asked.data;
  return (
    <div className="grid gap-4">
      {known ? (
        <Ways ways={asked.data} invitation={code} email={found.email ?? undefined} />
      ) : (
        <>
          {providers.map(({ name, label }) => (
            <ButtonLink key={name} href={startAt(name, { invitation: code })}>
              Join with {label}
            </ButtonLink>
          ))}
          {providers.length > 0 && password && <Or>or</Or>}
          {password && <NewAccount invitation={code} email={found.email} />}
        </>
      )}
      <button
        type="button"
        className="w-fit rounded text-sm text-accent underline"
        onClick={() => setKnown(!known)}
      >
        {known ? "I have no account here yet" : "I have an account here already"}
      </button>
    </div>
  );
}
