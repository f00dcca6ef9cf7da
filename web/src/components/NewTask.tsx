import { useMutation, useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useId, useRef, useState } from "react";
import { Problem } from "../api/client";
import { agents, client, createTask, repositories, tasks } from "../api/queries";
import { useDraft } from "../hooks/useDraft";
import { Button, Card, Failure, Select, TextArea, TextField } from "../ui/controls";
import { paths } from "../util/paths";

const FIELDS = ["prompt", "repository", "agent", "base"];

/** Orders a task. What was typed stays until the server has it. */
export function NewTask() {
  const [prompt, setPrompt] = useDraft("task.prompt");
  const [repository, setRepository] = useDraft("task.repository");
  const [base, setBase] = useDraft("task.base");
  const [agent, setAgent] = useState("");
  const [missing, setMissing] = useState<Record<string, string>>({});
  const once = useRef(crypto.randomUUID());
  const list = useId();
  const navigate = useNavigate();
  const known = useQuery(repositories);
  const usable = useQuery(agents);

  const order = useMutation({
    mutationFn: () =>
      createTask(
        {
          prompt: prompt.trim(),
          repository: repository.trim(),
          agent: agent || null,
          base: base.trim() || null,
        },
        once.current,
      ),
    onSuccess: (task) => {
      setPrompt("");
      void client.invalidateQueries({ queryKey: tasks.queryKey });
      void navigate({ to: paths.task(task.id) });
    },
    // A corrected order is another order.
    onError: () => {
      once.current = crypto.randomUUID();
    },
  });

  const problem = order.error instanceof Problem ? order.error : null;
  const wrong = (field: string): string | undefined => {
    if (missing[field]) return missing[field];
    if (problem?.field !== field) return undefined;
    return [problem.message, problem.next].filter(Boolean).join(" ");
  };
  const elsewhere = order.isError && !FIELDS.includes(problem?.field ?? "");
  const chosen = usable.data?.items.find((one) => (agent ? one.name === agent : one.default));

  const submit = () => {
    const found: Record<string, string> = {};
    if (!prompt.trim()) found.prompt = "Say what is to be done.";
    if (!repository.trim()) found.repository = "Name the repository to work on.";
    setMissing(found);
    if (Object.keys(found).length === 0 && !order.isPending) order.mutate();
  };

  return (
    <Card className="p-4">
      <form
        aria-label="New task"
        noValidate
        className="grid gap-4"
        onSubmit={(event) => {
          event.preventDefault();
          submit();
        }}
      >
        <TextArea
          label="New task"
          name="prompt"
          rows={3}
          value={prompt}
          problem={wrong("prompt")}
          placeholder="What is to be done?"
          onChange={(event) => setPrompt(event.target.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter" && (event.metaKey || event.ctrlKey)) submit();
          }}
        />
        <div className="grid gap-4 sm:grid-cols-[2fr_1fr_1fr]">
          <TextField
            label="Repository"
            name="repository"
            list={list}
            autoCapitalize="off"
            spellCheck={false}
            value={repository}
            problem={wrong("repository")}
            placeholder="owner/repo, or a git address"
            onChange={(event) => setRepository(event.target.value)}
          />
          <datalist id={list}>
            {known.data?.items.map((one) => (
              // What was sent from somebody's machine has no address that the server could fetch.
              <option key={one.id} value={one.kind === "sent" ? one.id : one.source}>
                {one.folder}
              </option>
            ))}
          </datalist>
          <TextField
            label="Base"
            name="base"
            autoCapitalize="off"
            spellCheck={false}
            value={base}
            problem={wrong("base")}
            placeholder="default branch"
            onChange={(event) => setBase(event.target.value)}
          />
          <Select
            label="Agent"
            name="agent"
            value={agent}
            problem={wrong("agent")}
            hint={chosen && !chosen.ready ? chosen.reason : undefined}
            onChange={(event) => setAgent(event.target.value)}
          >
            <option value="">Default{usable.data && defaultName(usable.data.items)}</option>
            {usable.data?.items.map((one) => (
              <option key={one.name} value={one.name} disabled={!one.ready}>
                {one.title}
                {one.ready ? "" : " (not ready)"}
              </option>
            ))}
          </Select>
        </div>
        {elsewhere && <Failure cause={order.error} />}
        <div className="flex flex-wrap items-center justify-end gap-3">
          <p className="text-xs text-faint">Ctrl or ⌘ + Enter starts it</p>
          <Button type="submit" look="main" disabled={order.isPending}>
            {order.isPending ? "Starting…" : "Start"}
          </Button>
        </div>
      </form>
    </Card>
  );
}

function defaultName(items: { default: boolean; title: string }[]): string {
  const found = items.find((one) => one.default);
  return found ? ` (${found.title})` : "";
}
