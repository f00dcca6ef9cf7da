import { useMutation, useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useId, useRef, useState } from "react";
import { Problem } from "../api/client";
import { agents, client, createTask, repositories, tasks } from "../api/queries";
import { useDraft } from "../hooks/useDraft";
import { Button, Card, Failure, Select, TextArea, TextField } from "../ui/controls";
import { paths } from "../util/paths";
import { type Maker, MakerRow, ordered } from "./Makers";

/** Problems of these fields stand beside them. */
const FIELDS = /^(prompt|repository|base|attempts|(agents\[\d+\]\.)?(agent|model))$/;

/** As many attempts may be made at a task. */
const MOST = 8;

/** Orders a task. What was typed stays until the server has it. */
export function NewTask() {
  const [prompt, setPrompt] = useDraft("task.prompt");
  const [repository, setRepository] = useDraft("task.repository");
  const [base, setBase] = useDraft("task.base");
  const [makers, setMakers] = useState<Maker[]>([{ agent: "", model: "" }]);
  const [attempts, setAttempts] = useState(1);
  const [missing, setMissing] = useState<Record<string, string>>({});
  const once = useRef(crypto.randomUUID());
  const list = useId();
  const navigate = useNavigate();
  const known = useQuery(repositories);
  const items = useQuery(agents).data?.items ?? [];
  const several = makers.length > 1;
  const each = Math.min(attempts, Math.floor(MOST / makers.length));

  const order = useMutation({
    mutationFn: () =>
      createTask(
        {
          prompt: prompt.trim(),
          repository: repository.trim(),
          ...ordered(makers, items),
          attempts: each,
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
  const elsewhere = order.isError && !FIELDS.test(problem?.field ?? "");

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
        <div className="grid gap-4 sm:grid-cols-[2fr_1fr]">
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
        </div>
        {makers.map((maker, at) => (
          <MakerRow
            // biome-ignore lint/suspicious/noArrayIndexKey: a maker is its place in the list
            key={at}
            maker={maker}
            agents={items}
            problem={(field) => wrong(several ? `agents[${at}].${field}` : field)}
            onChange={(next) => setMakers(makers.map((one, i) => (i === at ? next : one)))}
            onRemove={several ? () => setMakers(makers.filter((_, i) => i !== at)) : undefined}
          />
        ))}
        <div className="flex flex-wrap items-end gap-4">
          <div className="w-40">
            <Select
              label={several ? "Attempts of each" : "Attempts"}
              name="attempts"
              value={each}
              problem={wrong("attempts")}
              onChange={(event) => setAttempts(Number(event.target.value))}
            >
              {Array.from({ length: Math.floor(MOST / makers.length) }, (_, i) => i + 1).map(
                (n) => (
                  <option key={n} value={n}>
                    {n}
                  </option>
                ),
              )}
            </Select>
          </div>
          {(makers.length + 1) * each <= MOST && (
            <Button onClick={() => setMakers([...makers, { agent: "", model: "" }])}>
              Another agent beside it
            </Button>
          )}
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
