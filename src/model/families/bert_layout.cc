// SPDX-License-Identifier: Apache-2.0
#include "model/families/bert_layout.h"

#include <boost/json/object.hpp>
#include <charconv>
#include <iterator>
#include <utility>

#include "core/error.h"
#include "model/families/config_reader.h"
#include "model/families/slot_builder.h"

namespace peregrine::model {
namespace {

using core::ErrorKind;
using core::fail;
using core::JsonView;

constexpr std::int64_t kMaxTokenTypes = 65536;
constexpr std::int64_t kMaxLabels = std::int64_t{1} << 20;

void refuse_unsupported(const JsonView& config) {
  if (const auto kind = config.find("position_embedding_type"); kind && kind->as_string() != "absolute") {
    fail(ErrorKind::kUnsupported, "{} is {}; supported is \"absolute\"", kind->where(),
         core::quoted(kind->as_string()));
  }
  for (const std::string_view key : {"is_decoder", "add_cross_attention", "is_encoder_decoder"}) {
    refuse_flag(config, key);
  }
  if (const auto pruned = config.find("pruned_heads"); pruned && !pruned->members().empty()) {
    fail(ErrorKind::kUnsupported, "{}: models with pruned attention heads are not supported",
         pruned->where());
  }
}

/// The number that a key of id2label is, in [0, count).
std::size_t label_index(const JsonView& labels, std::string_view key, std::size_t count) {
  std::size_t index = 0;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), index);
  if (error != std::errc() || end != key.data() + key.size() || index >= count) {
    fail(ErrorKind::kInvalidArgument, "{}: the keys of {} classes must be \"0\" to \"{}\", found {}",
         labels.where(), count, count - 1, core::quoted(key));
  }
  return index;
}

std::string label_name(const JsonView& name) {
  if (name.is_integer()) return std::to_string(name.as_int(INT64_MIN, INT64_MAX));
  return std::string(name.as_string());
}

}  // namespace

EncoderConfig read_encoder_sizes(const JsonView& config, std::string_view family) {
  refuse_unsupported(config);
  DecoderConfig sizes;
  read_sizes(config, 512, sizes);
  EncoderConfig out;
  out.family = family;
  out.vocab_size = sizes.vocab_size;
  out.hidden_size = sizes.hidden_size;
  out.layers = sizes.layers;
  out.heads = sizes.heads;
  out.head_dim = sizes.head_dim;
  out.attention_scale = sizes.attention_scale;
  out.max_positions = sizes.max_positions;
  out.learned.rows = sizes.max_positions;
  return out;
}

EncoderConfig read_bert_config(const JsonView& config, std::string_view family) {
  EncoderConfig out = read_encoder_sizes(config, family);
  out.intermediate_size = read_int(config, {"intermediate_size"}, 1, kMaxIntermediate);
  out.norm_epsilon = read_epsilon(config, "layer_norm_eps", 1e-12);
  out.token_types = static_cast<std::int32_t>(read_int(config, {"type_vocab_size"}, 1, kMaxTokenTypes, 2));
  out.activation = read_activation(config, "hidden_act", "gelu");
  return out;
}

bool is_classifier(std::string_view architecture) {
  return architecture.ends_with("ForSequenceClassification");
}

std::vector<std::string> read_labels(const JsonView& config) {
  const auto named = config.find("id2label");
  if (!named) {
    const std::int64_t count = read_int(config, {"num_labels", "_num_labels"}, 1, kMaxLabels, 2);
    std::vector<std::string> out;
    for (std::int64_t i = 0; i < count; ++i) out.push_back("LABEL_" + std::to_string(i));
    return out;
  }
  const auto members = named->members();
  if (members.empty()) named->fail_expected("an object with a name for each class");
  // The keys are as many as the places and each below their number, so that all are there if none comes
  // twice: "0" and "00".
  std::vector<std::string> out(members.size());
  std::vector<bool> seen(members.size());
  for (const auto& [key, name] : members) {
    const std::size_t index = label_index(*named, key, members.size());
    if (seen[index]) {
      fail(ErrorKind::kInvalidArgument, "{}: class {} has two names", named->where(), index);
    }
    seen[index] = true;
    out[index] = label_name(name);
  }
  return out;
}

std::vector<SlotSource> bert_embedding_slots(const EncoderConfig& config, const std::string& prefix) {
  SlotBuilder slots(prefix);
  const std::int64_t width = config.embedding_width();
  slots.whole(Slot::kTokenEmbedding, Cut::kVocabulary, "word_embeddings.weight", {config.vocab_size, width});
  slots.whole(Slot::kPositionEmbedding, Cut::kReplicated, "position_embeddings.weight",
              {config.learned.rows, width});
  if (config.token_types > 0) {
    slots.whole(Slot::kTokenTypeEmbedding, Cut::kReplicated, "token_type_embeddings.weight",
                {config.token_types, width});
  }
  slots.norm(Slot::kEmbeddingNormWeight, Slot::kEmbeddingNormBias, true, "LayerNorm", width);
  return slots.take();
}

std::vector<SlotSource> bert_layer_slots(const EncoderConfig& config, const std::string& prefix) {
  SlotBuilder slots(prefix);
  const std::int64_t width = config.hidden_size;
  const std::int64_t heads = std::int64_t{config.heads} * config.head_dim;
  slots.fused(Slot::kQkv, Slot::kQkvBias, true, Cut::kHeadGroup,
              {{"q", "attention.self.query", heads, all_rows(heads)},
               {"k", "attention.self.key", heads, all_rows(heads)},
               {"v", "attention.self.value", heads, all_rows(heads)}},
              width);
  slots.linear(Slot::kAttentionOut, Slot::kAttentionOutBias, true, Cut::kRow, "attention.output.dense", width,
               heads);
  slots.norm(Slot::kAttentionNormWeight, Slot::kAttentionNormBias, true, "attention.output.LayerNorm", width);
  slots.linear(Slot::kMlpUp, Slot::kMlpUpBias, true, Cut::kColumn, "intermediate.dense",
               config.intermediate_size, width);
  slots.linear(Slot::kMlpDown, Slot::kMlpDownBias, true, Cut::kRow, "output.dense", width,
               config.intermediate_size);
  slots.norm(Slot::kMlpNormWeight, Slot::kMlpNormBias, true, "output.LayerNorm", width);
  return slots.take();
}

std::vector<SlotSource> head_slots(const EncoderConfig& config, const std::string& first,
                                   const std::string& second) {
  SlotBuilder slots("");
  const std::int64_t width = config.hidden_size;
  const auto labels = static_cast<std::int64_t>(config.head.labels.size());
  if (config.head.has_pooler) {
    slots.linear(Slot::kPooler, Slot::kPoolerBias, true, Cut::kReplicated, first, width, width);
  }
  if (labels > 0) {
    slots.linear(Slot::kClassifier, Slot::kClassifierBias, true, Cut::kReplicated, second, labels, width);
  }
  return slots.take();
}

std::vector<SlotSource> joined(std::vector<SlotSource> slots, std::vector<SlotSource> more) {
  slots.insert(slots.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  return slots;
}

}  // namespace peregrine::model
