// SPDX-License-Identifier: Apache-2.0
// Templates and inputs made to exhaust something: each must end soon, with an error that names the bound.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "chat_template/render.h"
#include "core/json.h"
#include "text/chat_template.h"

namespace peregrine {
namespace {

using ::testing::HasSubstr;
using testing::render;
using testing::render_error;

std::string repeat(const std::string& text, std::size_t times) {
  std::string out;
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}

void expect_bound(const std::string& source, const std::string& named) {
  const core::Error error = render_error(source);
  EXPECT_EQ(error.kind(), core::ErrorKind::kInvalidArgument);
  EXPECT_THAT(error.what(), HasSubstr(named)) << source.substr(0, 200);
}

TEST(ChatTemplateBounds, NestingOfTheSyntax) {
  constexpr std::size_t kDeep = 60'000;  // as much as the longest of these leaves room for
  for (const auto& [open, close] : std::vector<std::pair<std::string, std::string>>{{"(", ")"},
                                                                                    {"[", "]"},
                                                                                    {"{1:", "}"},
                                                                                    {"not ", ""},
                                                                                    {"-", ""},
                                                                                    {"f(", ")"},
                                                                                    {"a[", "]"},
                                                                                    {"1 if ", ""},
                                                                                    {"1 if 1 else ", ""},
                                                                                    {"a|default(", ")"},
                                                                                    {"a is eq ", ""}}) {
    SCOPED_TRACE(open);
    const core::Error error = render_error("{{ " + repeat(open, kDeep) + "1" + repeat(close, kDeep) + " }}");
    EXPECT_THAT(error.what(), HasSubstr("t: line 1, column "));
  }
  expect_bound("{{ " + repeat("(", 100'000) + repeat(")", 100'000), "more than 200 deep");
  expect_bound(repeat("{% if 1 %}", kDeep), "more than 200 deep");
  expect_bound(repeat("{% for i in x %}", kDeep), "more than 200 deep");
  expect_bound(repeat("{% macro f() %}", kDeep), "more than 200 deep");
  expect_bound("{% set " + repeat("(", kDeep) + "a" + repeat(")", kDeep) + " = 1 %}", "more than 200 deep");
  for (const char* link : {"+1", "*1", "-1", " and 1", " or 1", "**1", ".a", "[0]", "|e", "()", " is eq 1"}) {
    SCOPED_TRACE(link);
    expect_bound("{{ 1" + repeat(link, kDeep) + " }}", "more than 300 operators");
  }
  // What people write is far below.
  EXPECT_EQ(render("{{ " + repeat("(", 90) + "1" + repeat(")", 90) + " }}"), "1");
  EXPECT_EQ(render("{{ 0" + repeat(" + 1", 250) + " }}"), "250");
  EXPECT_EQ(render("{{ ''" + repeat(" ~ 'a'", 10'000) + " }}"), repeat("a", 10'000));
}

TEST(ChatTemplateBounds, Steps) {
  const std::string loop = "{% for a in range(100000) %}";
  const std::string end = "{% endfor %}";
  expect_bound(repeat(loop, 3) + repeat(end, 3), "more than 10000000 steps");
  expect_bound(repeat(loop, 3) + "{{ a }}" + repeat(end, 3), "more than 10000000 steps");
  expect_bound("{% for a in range(100000) if range(100000)|select('odd')|list|length < 0 %}{% endfor %}",
               "steps");
  expect_bound("{% set s = 'ab' * 10000000 %}" + loop + "{% set x = s|upper %}" + end, "steps");
  expect_bound("{% set s = 'ab' * 10000000 %}" + loop + "{% set x = 'c' in s %}" + end, "steps");
  expect_bound("{% set s = 'ab' * 10000000 %}" + loop + "{% set x = s + 'c' %}" + end, "steps");
  expect_bound("{% set l = [1] * 1000000 %}" + loop + "{% set x = 2 in l %}" + end, "steps");
  expect_bound("{% set l = [1] * 1000000 %}" + loop + "{% set x = l == l[:] %}" + end, "steps");
  // Values that share their parts are small in memory, and endless when written out.
  expect_bound(
      "{% set ns = namespace(x=[1]) %}{% for i in range(150) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
      "{{ ns.x }}",
      "steps");
  expect_bound(
      "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(150) %}{% set ns.x = [ns.x, ns.x] %}"
      "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
      "steps");
  expect_bound(
      "{% set ns = namespace(x=[1]) %}{% for i in range(150) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
      "{{ ns.x|tojson }}",
      "steps");
}

TEST(ChatTemplateBounds, SearchesStayLinear) {
  // Quadratic searches would take minutes each.
  const std::string texts =
      "{% set t = 'a' * 4000000 %}{% set n = 'a' * 2000000 ~ 'b' %}{% set m = 'b' ~ 'a' * 2000000 %}";
  EXPECT_EQ(render(texts + "{{ n in t }}{{ t.find(n) }}{{ t.rfind(n) }}{{ t.rfind(m) }}{{ t.count(n) }}"
                           "{{ t.replace(n, '')|length }}{{ t.split(n)|length }}{{ t.rsplit(m, 1)|length }}"
                           "{{ t.strip(m)|length }}"),
            "False-1-1-10400000011"
            "0");
}

TEST(ChatTemplateBounds, TextAndMemory) {
  expect_bound("{{ 'x' * 100000000 }}", "64 MiB");
  expect_bound("{{ 'x' * 10 ** 30 }}", "64 MiB");
  expect_bound("{{ [1] * 10 ** 30 }}", "256 MiB");
  expect_bound("{{ [1] * 100000000 }}", "256 MiB");
  expect_bound("{% set s = 'x' * 60000000 %}{{ s }}{{ s }}", "64 MiB");
  expect_bound("{% set s = 'x' * 60000000 %}{{ s ~ s }}", "64 MiB");
  expect_bound("{% set s = 'x' * 60000000 %}{{ s.replace('x', 'yy') }}", "64 MiB");
  expect_bound("{% set s = 'x' * 60000000 %}{{ [s, s]|join }}", "64 MiB");
  expect_bound("{% set s = 'x\\n' * 2000000 %}{{ s|indent(40, blank=true) }}", "64 MiB");
  expect_bound("{% set s = '\"' * 60000000 %}{{ s|tojson }}", "64 MiB");
  expect_bound("{% set s = '\\x01' * 60000000 %}{{ [s] }}", "64 MiB");
  expect_bound("{{ 'x'.ljust(10 ** 20) }}", "64 MiB");
  expect_bound("{{ 'x'|center(10 ** 20) }}", "64 MiB");
  expect_bound("{{ 'x'|indent(10 ** 20) }}", "64 MiB");
  expect_bound("{{ '1'.zfill(10 ** 20) }}", "64 MiB");
  expect_bound(
      "{% set ns = namespace(l=[]) %}{% for i in range(100) %}{% set ns.l = ns.l + ['x' * (50000000 + i)] %}"
      "{% endfor %}",
      "256 MiB");
  expect_bound("{% set s = 'x ' * 30000000 %}{{ s.split()|length }}", "parts");
  expect_bound("{% set s = 'x' * 60000000 %}{{ s|list|length }}", "256 MiB");
  expect_bound("{{ '%999999d' % 1 }}", "100000");
  expect_bound("{{ '%.999999f' % 1 }}", "500");
  expect_bound("{{ '{:>999999}'.format(1) }}", "100000");
  expect_bound("{{ strftime_now('%99999d') }}", "4096");
  expect_bound("{{ range(10 ** 30) }}", "at most 100000");
  expect_bound("{{ 2 ** 127 }}", "127 bits");
  expect_bound("{{ 10 ** 10 ** 10 }}", "127 bits");
  EXPECT_EQ(render_error("{{ " + repeat("9", 100) + " }}").kind(), core::ErrorKind::kUnsupported);
}

TEST(ChatTemplateBounds, Recursion) {
  expect_bound("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls are nested more than");
  expect_bound("{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f(1) }}", "nested more than");
  expect_bound("{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}", "calls are nested more than");
  expect_bound(
      "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{{ caller() }}{% endmacro %}"
      "{% call f() %}x{% endcall %}",
      "calls are nested more than");
  const std::string deepen = "{% for i in range(100000) %}{% set ns.x = ";
  expect_bound("{% set ns = namespace(x=1) %}" + deepen + "[ns.x] %}{% endfor %}",
               "values are nested more than 200");
  expect_bound("{% set ns = namespace(x=1) %}" + deepen + "{1: ns.x} %}{% endfor %}",
               "values are nested more than 200");
  expect_bound("{% set ns = namespace(x=[1]) %}" + deepen + "ns.x|map('upper') %}{% endfor %}",
               "values are nested more than 200");
  // Through namespaces a chain has no depth of its own: it must not be followed to its end.
  expect_bound("{% set ns = namespace(x=none) %}" + deepen + "namespace(x=ns.x) %}{% endfor %}{{ ns }}",
               "calls are nested more than");
  expect_bound("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", "calls are nested more than");
  expect_bound(
      "{% set ns = namespace(g=['a']) %}{% for i in range(1000) %}"
      "{% set ns.g = [namespace(g=ns.g)]|map(attribute='g')|map('list') %}{% endfor %}{{ ns.g|list }}",
      "nested more than");
}

TEST(ChatTemplateBounds, CirclesAreTakenApart) {
  // A leak checker sees what is left of these.
  EXPECT_EQ(render("{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns.x|length }}"), "1");
  EXPECT_EQ(render("{% for i in [1] %}{{ loop.changed(loop) }}{% endfor %}"), "True");
  EXPECT_EQ(render("{% for i in [1,2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}"), "12");
  EXPECT_EQ(render("{% set ns = namespace() %}{% set ns.g = [ns]|map(attribute='g') %}{{ ns.g is defined }}"),
            "True");
  EXPECT_EQ(
      render("{% set ns = namespace(x=none) %}{% for i in range(100000) %}{% set ns.x = namespace(x=ns.x) %}"
             "{% endfor %}ok"),
      "ok");
  render_error("{% for i in [1] %}{{ loop.changed(loop) }}{{ x.y }}{% endfor %}");
}

TEST(ChatTemplateBounds, SizeOfTheTemplate) {
  EXPECT_EQ(render(repeat("x", 1 << 20)).size(), std::size_t{1} << 20);
  EXPECT_THAT(render_error(repeat("x", (1 << 20) + 1)).what(), HasSubstr("at most 1048576"));
  EXPECT_THAT(render_error("\xff").what(), HasSubstr("UTF-8"));
  EXPECT_THAT(render_error(repeat("{{", 1 << 18)).what(), HasSubstr("line 1"));
  EXPECT_THAT(render_error("{{ [" + repeat("[],", 300'000) + "}}").what(), HasSubstr("line 1"));
  EXPECT_EQ(render("{% if 0 %}" + repeat("{% elif 0 %}", 80'000) + "{% else %}x{% endif %}"), "x");
}

TEST(ChatTemplateBounds, OneTemplateServesManyThreads) {
  const auto chat_template = text::ChatTemplate::parse(
      "{% macro m(x) %}{{ x ~ 'é' * 3 }}{% endmacro %}{% for i in range(n) %}{{ m('c')[1] ~ 'const'|upper "
      "}}{% endfor %}",
      "t");
  const auto variables = core::parse_json(R"({"n": 200})", "variables");
  const std::string expected = chat_template->render(variables.as_object(), 0);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i)
        wrong[t] += chat_template->render(variables.as_object(), 0) == expected ? 0 : 1;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

}  // namespace
}  // namespace peregrine
