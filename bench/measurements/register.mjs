import { repeat, timed, withSession } from "../session.mjs";
import { upstream } from "../upstream-params.mjs";

const TOOLS = 40;

/** Two registrations, whose difference is what the tools cost: starting the MCP server costs the same in both. */
export const measurement = {
  name: "register, per tool",
  unit: "ms",
  target: 10,
  run: (subject) =>
    withSession(subject, async (session) => {
      await session.cell("1");
      const register = (name, tools) =>
        timed(() => session.call("register_mcp_server", { server_name: name, server_params: upstream(tools, name) }));
      await register("warm_up", 1); // starts the generator
      return repeat(subject.isOurs ? 10 : 3, async (index) => {
        const few = await register(`few_${index}`, 0);
        return ((await register(`many_${index}`, TOOLS)) - few) / TOOLS;
      });
    }),
};
