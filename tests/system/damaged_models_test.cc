// SPDX-License-Identifier: Apache-2.0
// Damaged model directories, made from healthy ones by a list of mutations: every one must end in exit code 2
// with an error that names the file and the thing, in little memory, and never in a crash.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

#include "core/files.h"
#include "core/json.h"
#include "support/test_data.h"
#include "system/run_program.h"

namespace peregrine {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using ::testing::HasSubstr;

/// A healthy run of the example takes about 40 MB; under sanitizers a few times that.
constexpr long kMostKilobytes = 600 * 1024;

enum class Base { kExample, kSharded };

struct Damage {
  std::string name;
  Base base = Base::kExample;
  std::string file;  ///< Which file is damaged; the error must name it.
  std::function<std::string(const std::string& healthy)> mutate;
  std::string thing;  ///< What else the error must name.
};

std::string read(const fs::path& path) { return core::read_file(path, 1 << 28); }

std::function<std::string(const std::string&)> truncate_to(std::size_t size) {
  return [size](const std::string& healthy) { return healthy.substr(0, size); };
}

std::uint64_t header_size(const std::string& file) {
  std::uint64_t size = 0;
  std::memcpy(&size, file.data(), sizeof size);
  return size;
}

std::string with_header_size(std::string file, std::uint64_t size) {
  std::memcpy(file.data(), &size, sizeof size);
  return file;
}

/// Rewrites the JSON header of a safetensors file.
std::function<std::string(const std::string&)> edit_header(std::function<void(json::object&)> edit) {
  return [edit](const std::string& healthy) {
    const std::uint64_t size = header_size(healthy);
    auto header = core::parse_json(std::string_view(healthy).substr(8, size), "header");
    edit(header.as_object());
    const std::string text = json::serialize(header);
    return with_header_size(std::string(8, '\0') + text + healthy.substr(8 + size), text.size());
  };
}

/// Rewrites one tensor's entry in the header.
std::function<std::string(const std::string&)> edit_tensor(const std::string& name,
                                                           std::function<void(json::object&)> edit) {
  return edit_header([name, edit](json::object& header) { edit(header.at(name).as_object()); });
}

std::function<std::string(const std::string&)> edit_json(std::function<void(json::object&)> edit) {
  return [edit](const std::string& healthy) {
    auto document = core::parse_json(healthy, "file");
    edit(document.as_object());
    return json::serialize(document);
  };
}

std::function<std::string(const std::string&)> set_key(const std::string& key, const std::string& value) {
  return edit_json([key, value](json::object& root) { root[key] = core::parse_json(value, "value"); });
}

std::function<std::string(const std::string&)> become(const std::string& text) {
  return [text](const std::string&) { return text; };
}

const std::string kTensor = "transformer.h.3.mlp.dense_4h_to_h.weight";  // [192, 768] bfloat16 in the example
const std::string kWeights = "model.safetensors";

void add_truncations(std::vector<Damage>& out) {
  for (const std::size_t size : {0u, 1u, 7u, 8u, 9u, 100u}) {
    out.push_back(
        {"truncated to " + std::to_string(size), Base::kExample, kWeights, truncate_to(size), "bytes"});
  }
  out.push_back({"truncated before the header's end", Base::kExample, kWeights,
                 [](const std::string& file) { return file.substr(0, 8 + header_size(file) - 1); },
                 "header"});
  out.push_back({"truncated after the header", Base::kExample, kWeights,
                 [](const std::string& file) { return file.substr(0, 8 + header_size(file)); }, "bytes"});
  out.push_back({"truncated in the data", Base::kExample, kWeights,
                 [](const std::string& file) { return file.substr(0, file.size() / 2); }, "bytes"});
  out.push_back({"last byte missing", Base::kExample, kWeights,
                 [](const std::string& file) { return file.substr(0, file.size() - 1); }, "bytes"});
  out.push_back({"one byte too many", Base::kExample, kWeights,
                 [](const std::string& file) { return file + "x"; }, "bytes"});
}

void add_lying_lengths(std::vector<Damage>& out) {
  for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{104857601},
                                   std::uint64_t{1} << 31, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    out.push_back({"header length " + std::to_string(size), Base::kExample, kWeights,
                   [size](const std::string& file) { return with_header_size(file, size); }, "header"});
  }
  out.push_back({"header length one less", Base::kExample, kWeights,
                 [](const std::string& file) { return with_header_size(file, header_size(file) - 1); },
                 "bytes of data"});
  for (const int delta : {1, 8}) {
    out.push_back({"header length off by " + std::to_string(delta), Base::kExample, kWeights,
                   [delta](const std::string& file) {
                     return with_header_size(file, header_size(file) + static_cast<std::uint64_t>(
                                                                           static_cast<std::int64_t>(delta)));
                   },
                   "header"});
  }
}

void add_bit_flips(std::vector<Damage>& out) {
  // Quotes, braces, digits and letters of tensor entries all get hit; none of these is harmless.
  for (int i = 0; i < 16; ++i) {
    out.push_back({"bit flip " + std::to_string(i) + " in the header", Base::kExample, kWeights,
                   [i](std::string file) {
                     const std::size_t begin = file.find(kTensor) + 2;
                     file[begin + static_cast<std::size_t>(i) * 6] = static_cast<char>(
                         file[begin + static_cast<std::size_t>(i) * 6] ^ (i % 2 == 0 ? 0x10 : 0x40));
                     return file;
                   },
                   ""});
  }
  for (const char* bits : {"infinity", "nan"}) {
    const char high = bits[0] == 'i' ? '\x7F' : '\xFF';
    const char low = bits[0] == 'i' ? '\x80' : '\xC1';
    out.push_back({std::string("exponent bits flipped in the data to ") + bits, Base::kExample, kWeights,
                   [high, low](std::string file) {
                     auto header =
                         core::parse_json(std::string_view(file).substr(8, header_size(file)), "header");
                     const auto begin = header.at(kTensor).at("data_offsets").at(0).to_number<std::size_t>();
                     const std::size_t at = 8 + header_size(file) + begin + 2 * 1001;
                     file[at] = low;
                     file[at + 1] = high;
                     return file;
                   },
                   kTensor});
  }
}

void add_header_edits(std::vector<Damage>& out) {
  const auto tensor = [&](const char* name, std::function<void(json::object&)> edit,
                          const std::string& thing) {
    out.push_back({name, Base::kExample, kWeights, edit_tensor(kTensor, std::move(edit)), thing});
  };
  const auto begin = [](json::object& t) {
    return t["data_offsets"].as_array()[0].to_number<std::int64_t>();
  };
  const auto end = [](json::object& t) { return t["data_offsets"].as_array()[1].to_number<std::int64_t>(); };
  tensor(
      "shape swapped",
      [](json::object& t) {
        t["shape"] = {768, 192};
      },
      kTensor);
  tensor(
      "shape with another rank",
      [](json::object& t) {
        t["shape"] = {192, 768, 1};
      },
      kTensor);
  tensor(
      "shape flat", [](json::object& t) { t["shape"] = {147456}; }, kTensor);
  tensor(
      "shape one larger",
      [](json::object& t) {
        t["shape"] = {193, 768};
      },
      kTensor);
  tensor(
      "shape with zero",
      [](json::object& t) {
        t["shape"] = {0, 768};
      },
      kTensor);
  tensor(
      "shape negative",
      [](json::object& t) {
        t["shape"] = {-192, 768};
      },
      kTensor);
  tensor(
      "shape huge",
      [](json::object& t) {
        t["shape"] = {std::int64_t{1} << 62, 768};
      },
      kTensor);
  tensor(
      "shape overflowing to the right size",
      [](json::object& t) {
        t["shape"] = {std::int64_t{1} << 33, std::int64_t{1} << 33};
      },
      kTensor);
  tensor(
      "shape a string", [](json::object& t) { t["shape"] = "192x768"; }, kTensor);
  tensor(
      "shape of floats",
      [](json::object& t) {
        t["shape"] = {192.5, 768.0};
      },
      kTensor);
  tensor(
      "dtype unknown", [](json::object& t) { t["dtype"] = "BF15"; }, "BF15");
  tensor(
      "dtype a number", [](json::object& t) { t["dtype"] = 16; }, kTensor);
  tensor(
      "dtype of another size", [](json::object& t) { t["dtype"] = "F32"; }, kTensor);
  tensor(
      "dtype of integers", [](json::object& t) { t["dtype"] = "I16"; }, kTensor);
  tensor(
      "offsets reversed",
      [=](json::object& t) {
        t["data_offsets"] = {end(t), begin(t)};
      },
      kTensor);
  tensor(
      "offsets past the end",
      [=](json::object& t) {
        t["data_offsets"] = {begin(t) + (1 << 30), end(t) + (1 << 30)};
      },
      "gap");
  tensor(
      "offsets huge",
      [=](json::object& t) {
        t["data_offsets"] = {begin(t), std::uint64_t{1} << 63};
      },
      kTensor);
  tensor(
      "offsets overlapping",
      [=](json::object& t) {
        t["data_offsets"] = {begin(t) - 2, end(t) - 2};
      },
      "");
  tensor(
      "offsets negative",
      [=](json::object& t) {
        t["data_offsets"] = {-2, end(t)};
      },
      kTensor);
  tensor(
      "offsets missing", [](json::object& t) { t.erase("data_offsets"); }, kTensor);
  tensor(
      "offsets of three",
      [=](json::object& t) {
        t["data_offsets"] = {0, begin(t), end(t)};
      },
      kTensor);
  out.push_back({"tensor missing, leaving a gap", Base::kExample, kWeights,
                 edit_header([](json::object& h) { h.erase(kTensor); }), ""});
  out.push_back({"tensor renamed", Base::kExample, kWeights, edit_header([](json::object& h) {
                   h["transformer.h.3.mlp.other"] = h.at(kTensor);
                   h.erase(kTensor);
                 }),
                 kTensor});
  out.push_back(
      {"tensor twice", Base::kExample, kWeights,
       [](std::string file) {
         const std::uint64_t size = header_size(file);
         std::string header = file.substr(8, size);
         header.insert(header.rfind('}'),
                       R"(,")" + kTensor + R"(":{"dtype":"BF16","shape":[0],"data_offsets":[0,0]})");
         return with_header_size(std::string(8, '\0') + header + file.substr(8 + size), header.size());
       },
       kTensor});
  out.push_back({"header an array", Base::kExample, kWeights, become(std::string("\x02\0\0\0\0\0\0\0[]", 10)),
                 "header"});
}

void add_config_damage(std::vector<Damage>& out) {
  const auto key = [&](const char* name, const char* value) {
    out.push_back({std::string(name) + " is " + std::string(value).substr(0, 20), Base::kExample,
                   "config.json", set_key(name, value), name});
  };
  for (const char* value : {"\"192\"", "-192", "0", "1e300", "[192]", "null", "192.5", "9223372036854775807"})
    key("hidden_size", value);
  for (const char* value : {"1000000000", "true", "-6"}) key("num_hidden_layers", value);
  for (const char* value : {"0", "5", "{}", "1000000"}) key("num_attention_heads", value);
  for (const char* value : {"\"x\"", "0", "4000000000"}) key("vocab_size", value);
  key("layer_norm_epsilon", "\"small\"");
  key("rope_theta", "-1");
  key("rope_scaling", "{\"type\": \"warp\", \"factor\": 2}");
  key("rope_scaling", "[1]");
  key("alibi", "\"yes\"");
  key("activation", "\"swishy\"");
  key("architectures", "[\"UnheardOfForCausalLM\"]");
  key("architectures", "7");
  key("torch_dtype", "\"float3\"");
  key("eos_token_id", "\"end\"");
  out.push_back({"layers more than stored", Base::kExample, kWeights, nullptr, "transformer.h.6"});
  for (const auto& [name, text] :
       std::vector<std::pair<std::string, std::string>>{{"empty", ""},
                                                        {"not JSON", "{hidden_size}"},
                                                        {"cut short", "{\"hidden_size\": 192"},
                                                        {"an array", "[]"},
                                                        {"deep", std::string(100000, '[')},
                                                        {"binary", std::string("\0\xFF\xFE", 3)},
                                                        {"a string", "\"x\""}}) {
    out.push_back({"config.json " + name, Base::kExample, "config.json", become(text), ""});
  }
  out.push_back({"generation_config.json wrong type", Base::kExample, "generation_config.json",
                 set_key("temperature", "\"hot\""), "temperature"});
  out.push_back({"generation_config.json out of range", Base::kExample, "generation_config.json",
                 set_key("top_k", "-5"), "top_k"});
  out.push_back(
      {"generation_config.json not JSON", Base::kExample, "generation_config.json", become("{"), ""});
  out.push_back({"serving.properties unknown key", Base::kExample, "serving.properties",
                 become("option.compute_dtpe=fp32\n"), "option.compute_dtype"});
  out.push_back({"serving.properties wrong value", Base::kExample, "serving.properties",
                 become("option.dtype=fp12\n"), "fp12"});
}

void add_tokenizer_damage(std::vector<Damage>& out) {
  const auto model = [&](const char* name, std::function<void(json::object&)> edit, const char* thing) {
    out.push_back({std::string("tokenizer ") + name, Base::kExample, "tokenizer.json",
                   edit_json([edit](json::object& root) { edit(root.at("model").as_object()); }), thing});
  };
  model(
      "vocabulary a list", [](json::object& m) { m["vocab"] = json::array{"a"}; }, "vocab");
  model(
      "vocabulary missing", [](json::object& m) { m.erase("vocab"); }, "vocab");
  model(
      "id negative", [](json::object& m) { m["vocab"].as_object()["!"] = -1; }, "vocab");
  model(
      "id huge", [](json::object& m) { m["vocab"].as_object()["!"] = std::int64_t{1} << 40; }, "vocab");
  model(
      "id twice", [](json::object& m) { m["vocab"].as_object()["!"] = 2; }, "vocab");
  model(
      "id a string", [](json::object& m) { m["vocab"].as_object()["!"] = "1"; }, "vocab");
  model(
      "merges an object", [](json::object& m) { m["merges"] = json::object(); }, "merges");
  model(
      "merge of one part", [](json::object& m) { m["merges"].as_array()[0] = "ab"; }, "merges");
  model(
      "merge of unknown tokens", [](json::object& m) { m["merges"].as_array()[0] = "qqq zzz"; }, "merges");
  model(
      "merge a number", [](json::object& m) { m["merges"].as_array()[0] = 3; }, "merges");
  model(
      "model type unknown", [](json::object& m) { m["type"] = "Telepathy"; }, "Telepathy");
  out.push_back({"tokenizer pre-tokenizer unknown", Base::kExample, "tokenizer.json",
                 set_key("pre_tokenizer", R"({"type":"Chop"})"), "Chop"});
  out.push_back({"tokenizer regex broken", Base::kExample, "tokenizer.json",
                 set_key("pre_tokenizer",
                         R"({"type":"Split","pattern":{"Regex":"(["},"behavior":"Isolated","invert":false})"),
                 "pattern"});
  out.push_back(
      {"tokenizer decoder a number", Base::kExample, "tokenizer.json", set_key("decoder", "5"), "decoder"});
  out.push_back({"tokenizer added token id a string", Base::kExample, "tokenizer.json",
                 set_key("added_tokens", R"([{"id":"0","content":"x"}])"), "added_tokens"});
  for (const auto& [name, text] :
       std::vector<std::pair<std::string, std::string>>{{"empty", ""},
                                                        {"cut short", "{\"model\": {"},
                                                        {"deep", std::string(1 << 20, '[')},
                                                        {"an array", "[]"},
                                                        {"not UTF-8", "{\"model\": \"\xFF\"}"}}) {
    out.push_back({"tokenizer.json " + name, Base::kExample, "tokenizer.json", become(text), ""});
  }
}

void add_shard_damage(std::vector<Damage>& out) {
  const std::string index = "model.safetensors.index.json";
  const std::string tensor = "transformer.h.1.self_attention.dense.weight";
  const auto map = [&](const char* name, std::function<void(json::object&)> edit, const std::string& thing) {
    out.push_back({std::string("index ") + name, Base::kSharded, index,
                   edit_json([edit](json::object& root) { edit(root.at("weight_map").as_object()); }),
                   thing});
  };
  map(
      "names a shard that is missing",
      [=](json::object& m) { m[tensor] = "model-00009-of-00003.safetensors"; },
      "model-00009-of-00003.safetensors");
  map(
      "leaves the directory", [=](json::object& m) { m[tensor] = "../falcon_7b/model.safetensors"; }, "..");
  map(
      "has an absolute path", [=](json::object& m) { m[tensor] = "/etc/passwd"; }, "/etc/passwd");
  map(
      "has a number for a shard", [=](json::object& m) { m[tensor] = 3; }, tensor);
  map(
      "puts a tensor in the wrong shard",
      [=](json::object& m) { m[tensor] = "model-00001-of-00003.safetensors"; }, tensor);
  map(
      "names a tensor nobody has", [=](json::object& m) { m["ghost"] = "model-00001-of-00003.safetensors"; },
      "ghost");
  out.push_back({"index without a map", Base::kSharded, index, become("{\"metadata\": {}}"), "weight_map"});
  out.push_back({"index with an empty map", Base::kSharded, index, become("{\"weight_map\": {}}"), ""});
  out.push_back({"index with a list", Base::kSharded, index, become("{\"weight_map\": []}"), "weight_map"});
  out.push_back({"index not JSON", Base::kSharded, index, become("weights"), ""});
  out.push_back(
      {"shard truncated", Base::kSharded, "model-00002-of-00003.safetensors", truncate_to(5000), ""});
  out.push_back({"shard empty", Base::kSharded, "model-00003-of-00003.safetensors", become(""), ""});
}

std::vector<Damage> all_damages() {
  std::vector<Damage> out;
  add_truncations(out);
  add_lying_lengths(out);
  add_bit_flips(out);
  add_header_edits(out);
  add_config_damage(out);
  add_tokenizer_damage(out);
  add_shard_damage(out);
  return out;
}

/// Runs one damaged copy; `folder` holds links to the healthy files.
void check(const Damage& damage, const fs::path& healthy, const fs::path& folder) {
  if (damage.mutate) {
    fs::remove(folder / damage.file);
    std::ofstream(folder / damage.file, std::ios::binary) << damage.mutate(read(healthy / damage.file));
  } else {  // a config that asks for more than the (healthy) weights have
    fs::remove(folder / "config.json");
    std::ofstream(folder / "config.json") << set_key("num_hidden_layers", "7")(read(healthy / "config.json"));
  }
  std::vector<std::string> arguments = {"generate", folder.string(), "--max-new-tokens", "1", "--json"};
  const bool with_text = damage.base == Base::kExample;
  arguments.insert(arguments.end(), {with_text ? "--prompt" : "--ids", with_text ? "hello" : "1,2"});
  const auto result = testing::run_peregrine(arguments);
  EXPECT_EQ(result.exit_code, 2) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr(damage.file));
  EXPECT_THAT(result.err, HasSubstr(damage.thing));
  EXPECT_LT(result.err.size(), 2000u) << "an error is for reading";
  EXPECT_LT(result.peak_kilobytes, kMostKilobytes);
}

TEST(DamagedModels, AreAllRefusedByName) {
  PEREGRINE_REQUIRE_TEST_DATA("golden/falcon_7b_sharded");
  const auto damages = all_damages();
  EXPECT_GE(damages.size(), 100u);
  for (const Damage& damage : damages) {
    SCOPED_TRACE(damage.name);
    const fs::path healthy = damage.base == Base::kExample
                                 ? fs::path(PEREGRINE_SOURCE_DIR) / "examples/shakespeare"
                                 : testing::test_data() / "golden/falcon_7b_sharded";
    const testing::TemporaryDirectory folder;
    for (const auto& entry : fs::directory_iterator(healthy)) {
      if (entry.is_regular_file())
        fs::create_symlink(fs::absolute(entry.path()), folder.path() / entry.path().filename());
    }
    check(damage, healthy, folder.path());
  }
}

}  // namespace
}  // namespace peregrine
